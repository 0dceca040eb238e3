// The page of the manual, in mdoc. Text lines are kept free of what mdoc reads as its own: backslashes, and a dot or an
// apostrophe at the begin of a line; sentences begin lines, as `mandoc -Tlint` wants them.
#include "galvatron/Options/OptionTable.h"

#include "TextLines.h"

#include "runtime/core/Version.h"

#include <algorithm>
#include <cctype>

namespace galvatron::options {

static std::string escape(const std::string &text) {
  std::string escaped;
  for (char c : text)
    escaped += c == '\\' ? std::string("\\e") : c == '-' ? std::string("\\-") : std::string(1, c);
  bool isRequest = !escaped.empty() && (escaped.front() == '.' || escaped.front() == '\'');
  return (isRequest ? "\\&" : "") + escaped;
}

/// Whether a word ends a sentence, as mandoc sees it.
static bool endsSentence(std::string word) {
  while (!word.empty() && (word.back() == ')' || word.back() == ']' || word.back() == '"' || word.back() == '\''))
    word.pop_back();
  return !word.empty() && (word.back() == '.' || word.back() == '!' || word.back() == '?');
}

static std::string textLines(const std::string &text) {
  constexpr std::size_t kWidth = 72;
  std::string all, sentence;
  auto flush = [&] {
    for (const std::string &line : lines(wrap(sentence, kWidth)))
      all += line.empty() ? "" : escape(line) + "\n";
    sentence.clear();
  };
  for (const std::string &line : lines(wrap(text, 1))) { // a word each
    sentence += (sentence.empty() ? "" : " ") + line;
    if (endsSentence(line))
      flush();
  }
  flush();
  return all;
}

/// A word among a macro's arguments: one that is a macro's name, or punctuation, is text here.
static std::string argument(const std::string &word) {
  bool isShort = word.size() <= 3 && std::all_of(word.begin(), word.end(), [](char c) { return std::isalpha(c); });
  bool isPunctuation = word.size() == 1 && std::ispunct(word.front());
  return (isShort || isPunctuation ? "\\&" : "") + escape(word);
}

static std::string optionItem(const Option &option) {
  std::string item = ".It";
  for (const std::string &spelling : spellings(option))
    item += (item == ".It" ? " Fl " : " , Fl ") + argument(spelling.substr(1));
  if (option.value.empty())
    return item + "\n";
  if (option.value.front() == '[')
    return item + " Ns Op = Ns Ar " + argument(option.value.substr(1, option.value.size() - 2)) + "\n";
  return item + " Ar " + argument(option.value) + "\n";
}

static std::string optionList(const Tool &tool) {
  std::string text;
  bool isOpen = false;
  auto close = [&] {
    text += isOpen ? ".El\n" : "";
    isOpen = false;
  };
  for (const Option &option : tool.options) {
    if (option.isRare)
      continue;
    if (option.flags.empty()) {
      close();
      text += ".Ss " + escape(option.help) + "\n";
      continue;
    }
    text += isOpen ? "" : ".Bl -tag -width Ds\n";
    isOpen = true;
    text += optionItem(option) + textLines(option.help);
  }
  close();
  return text;
}

std::string manualPage(const Tool &tool) {
  std::string title = tool.name;
  std::transform(title.begin(), title.end(), title.begin(), [](unsigned char c) { return std::toupper(c); });
  std::string text = ".\\\" Made of the table of options: " + tool.name + " --manual\n.Dd " + kVersionDate + "\n.Dt " +
                     title + " 1\n.Os\n.Sh NAME\n.Nm " + tool.name + "\n.Nd " + escape(tool.summary) +
                     "\n.Sh SYNOPSIS\n.Nm\n.Op Ar options\n.Sh DESCRIPTION\nCommand lines:\n" +
                     ".Bd -literal -offset indent\n";
  for (const std::string &line : lines(tool.usage))
    text += escape(line) + "\n";
  text += ".Ed\n";
  for (const std::string &paragraph : paragraphs(tool.text))
    text += ".Pp\n" + textLines(paragraph);
  text += ".Sh OPTIONS\n" + optionList(tool);
  if (!tool.ending.empty())
    text += ".Sh NOTES\n";
  bool isFirst = true;
  for (const std::string &paragraph : paragraphs(tool.ending)) {
    text += (isFirst ? "" : ".Pp\n") + textLines(paragraph);
    isFirst = false;
  }
  return text;
}

} // namespace galvatron::options
