//===- WatchLines.cpp - how watchdogs talk to one another -------------------------------------===//
#include "runtime/core/WatchLines.h"
#include "runtime/core/Processes.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <random>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

namespace galvatron {

WatchLine::WatchLine(WatchLine &&other) noexcept
    : file(std::exchange(other.file, -1)), pending(std::move(other.pending)) {}

WatchLine &WatchLine::operator=(WatchLine &&other) noexcept {
  std::swap(file, other.file);
  std::swap(pending, other.pending);
  return *this;
}

void WatchLine::close() {
  if (file >= 0)
    ::close(file);
  file = -1;
  pending.clear();
}

void WatchLine::send(const WatchMessage &message) {
  ssize_t sent = file < 0 ? 0 : ::send(file, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL);
  // A message cut in two would confuse all that follow.
  if (sent > 0 && sent < (ssize_t)sizeof message)
    close();
}

std::vector<WatchMessage> WatchLine::receive(uint64_t token) {
  std::vector<WatchMessage> messages;
  char bytes[8192];
  bool isOver = false;
  while (file >= 0 && !isOver) {
    ssize_t count = recv(file, bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
      break;
    isOver = count <= 0;
    pending.append(bytes, std::max<ssize_t>(count, 0));
  }
  for (; pending.size() >= sizeof(WatchMessage); pending.erase(0, sizeof(WatchMessage))) {
    WatchMessage message;
    std::memcpy(&message, pending.data(), sizeof message);
    message.place[sizeof message.place - 1] = '\0';
    if (isOver |= message.token != token; message.token != token)
      break;
    messages.push_back(message);
  }
  if (isOver)
    close();
  return messages;
}

static int connectTo(uint32_t address, int port) {
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = address;
  to.sin_port = htons(port);
  int file = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (file < 0)
    return -1;
  int code = ::connect(file, reinterpret_cast<sockaddr *>(&to), sizeof to) == 0 ? 0 : errno;
  if (code == EINPROGRESS) {
    constexpr int kMilliseconds = 1000;
    pollfd ready{file, POLLOUT, 0};
    socklen_t size = sizeof code;
    if (poll(&ready, 1, kMilliseconds) != 1 || getsockopt(file, SOL_SOCKET, SO_ERROR, &code, &size) != 0)
      code = ETIMEDOUT;
  }
  if (code != 0) {
    close(file);
    return -1;
  }
  int one = 1;
  setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return file;
}

WatchLine WatchLine::connect(const WatchPlace &place) {
  if (place.port == 0)
    return WatchLine();
  if (hostName().substr(0, sizeof place.host - 1) == place.host)
    return WatchLine(connectTo(htonl(INADDR_LOOPBACK), place.port));
  for (uint32_t address : place.addresses)
    if (int file = address ? connectTo(address, place.port) : -1; file >= 0)
      return WatchLine(file);
  return WatchLine();
}

WatchListener::WatchListener() {
  file = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in own = {};
  own.sin_family = AF_INET;
  socklen_t size = sizeof own;
  if (file >= 0 && bind(file, reinterpret_cast<sockaddr *>(&own), sizeof own) == 0 && listen(file, SOMAXCONN) == 0 &&
      getsockname(file, reinterpret_cast<sockaddr *>(&own), &size) == 0)
    boundPort = ntohs(own.sin_port);
}

WatchListener::~WatchListener() {
  if (file >= 0)
    ::close(file);
}

WatchLine WatchListener::accept() {
  return WatchLine(file < 0 ? -1 : accept4(file, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

WatchPlace ownWatchPlace(int stage, int port) {
  WatchPlace place = {};
  std::snprintf(place.host, sizeof place.host, "%s", hostName().c_str());
  place.pid = getpid();
  place.stage = stage;
  place.port = port;
  std::random_device random;
  place.token = uint64_t(random()) << 32 | random();
  ifaddrs *list = nullptr;
  if (getifaddrs(&list) != 0)
    return place;
  int count = 0;
  for (ifaddrs *own = list; own && count < WatchPlace::kAddresses; own = own->ifa_next)
    if (own->ifa_addr && own->ifa_addr->sa_family == AF_INET && !(own->ifa_flags & IFF_LOOPBACK))
      place.addresses[count++] = reinterpret_cast<sockaddr_in *>(own->ifa_addr)->sin_addr.s_addr;
  freeifaddrs(list);
  return place;
}

} // namespace galvatron
