// Scripts that complete a command line. Bash cuts words at '=', so the option of a value is one or two words before;
// zsh's _arguments knows all that itself.
#include "galvatron/Options/OptionTable.h"

#include <algorithm>
#include <cctype>

namespace galvatron::options {

static std::string join(const std::vector<std::string> &words, const std::string &separator) {
  std::string text;
  for (const std::string &word : words)
    text += (text.empty() ? "" : separator) + word;
  return text;
}

static const std::string &commandOf(const Tool &tool) { return tool.command.empty() ? tool.name : tool.command; }

/// A name that a shell takes for a function.
static std::string functionName(const Tool &tool) {
  std::string name = "_" + tool.name;
  std::replace_if(name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}

/// Options as a word of a list: those with a value end in '=', behind which the value is completed.
static std::string wordsOf(const Tool &tool, bool rare) {
  std::vector<std::string> words;
  for (const Option &option : tool.options)
    for (const std::string &spelling : spellings(option)) {
      bool takesEqual = !option.value.empty() && option.value.front() != '[' && spelling.starts_with("--");
      if (option.isRare == rare)
        words.push_back(spelling + (takesEqual ? "=" : ""));
    }
  return join(words, " ");
}

static std::string bashScript(const Tool &tool) {
  std::string name = functionName(tool), text = "# bash completion of " + tool.name + "\n" + name + R"(() {
  local word=${COMP_WORDS[COMP_CWORD]} option= values= before=
  local options=')" + wordsOf(tool, false) +
                                                R"('
  local rare=')" + wordsOf(tool, true) +
                                                R"('
  (( COMP_CWORD > 0 )) && option=${COMP_WORDS[COMP_CWORD-1]}
  if [[ $word == = ]]; then
    word=
  elif [[ $option == = ]]; then
    option=${COMP_WORDS[COMP_CWORD-2]}
  elif [[ $word == --*=* ]]; then
    option=${word%%=*} before=${word%%=*}= word=${word#*=}
  fi
  COMPREPLY=()
  case $option in
)";
  for (const Option &option : tool.options)
    if (std::vector<std::string> words = choices(option); !words.empty())
      text += "    " + join(spellings(option), " | ") + ") values='" + join(words, " ") + "' ;;\n";
  return text + R"(  esac
  if [[ $values ]]; then
    COMPREPLY=($(compgen -P "$before" -W "$values" -- "$word"))
  elif [[ ! $before && $word == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
    (( ${#COMPREPLY[@]} )) || COMPREPLY=($(compgen -W "$rare" -- "$word"))
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
  else
    mapfile -t COMPREPLY < <(compgen -P "$before" -f -- "$word")
    compopt -o filenames 2>/dev/null
  fi
}
complete -F )" +
         name + " " + commandOf(tool) + "\n";
}

/// Inside single quotes, within an argument of _arguments.
static std::string quoteZsh(const std::string &text) {
  std::string quoted;
  for (char c : text) {
    if (std::string("[]:\\").find(c) != std::string::npos)
      quoted += '\\';
    quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return quoted;
}

/// What _arguments is told of a row, once for each spelling.
static std::string zshSpecs(const Tool &tool, bool rare) {
  std::string text;
  for (const Option &option : tool.options) {
    if (option.isRare != rare)
      continue;
    for (const std::string &spelling : spellings(option)) {
      std::string what = "[" + quoteZsh(option.help) + "]", action;
      std::vector<std::string> words = choices(option);
      bool isOptional = !option.value.empty() && option.value.front() == '[';
      if (!option.value.empty())
        action = std::string(isOptional ? "::" : ":") + quoteZsh(option.value) + ":" +
                 (words.empty() ? "_files" : "(" + join(words, " ") + ")");
      bool takesEqual = !option.value.empty() && spelling.starts_with("--");
      text += "    '*" + spelling + (isOptional ? "=-" : takesEqual ? "=" : "") + what + action + "'\n";
    }
  }
  return text;
}

static std::string zshScript(const Tool &tool) {
  std::string name = functionName(tool);
  return "#compdef " + commandOf(tool) + "\n# zsh completion of " + tool.name + "\n" + name + R"(() {
  local -a specs rare
  specs=(
)" + zshSpecs(tool, false) +
         R"(  )
  rare=(
)" + zshSpecs(tool, true) +
         R"(  )
  _arguments $specs '*:file:_files' || { (( $#rare )) && _arguments $rare; }
}
if [[ $funcstack[1] == )" +
         name + R"( ]]; then
  )" + name +
         R"( "$@"
else
  compdef )" +
         name + " " + commandOf(tool) + "\nfi\n";
}

std::string completionScript(const Tool &tool, const std::string &shell) {
  return shell == "bash" ? bashScript(tool) : zshScript(tool);
}

} // namespace galvatron::options
