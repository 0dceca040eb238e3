"""Nothing in the tree names one machine's folders or a package registry."""

import re

from tree import Finding

# Folders that exist on somebody's machine. /usr, /etc, /proc and /dev are Debian's and may be named.
ABSOLUTE = re.compile(
    r"(?:(?<=-[IL])|(?<![\w.~$}/)*-]))/(?:home|root|work|workspace|Users|mnt|data|scratch|tmp)/[\w.+-]+"
)
URL = re.compile(r"\b(?:https?|ftp)://([\w.-]+)")
# Documentation and papers; never a place from which a script could install something.
DOCUMENTATION = re.compile(r"(^|\.)(llvm\.org|w3\.org|arxiv\.org|apache\.org|github\.com|doi\.org|wikipedia\.org)$")
REGISTRY_OPTION = re.compile(r"--(?:extra-)?index-url\b|--find-links\b|--trusted-host\b")


def check(tree):
    for path in tree.files:
        if path.startswith("test/Conventions/"):
            continue  # this rule and its tests
        for number, line in tree.lines(path):
            for match in ABSOLUTE.finditer(line):
                yield Finding(
                    path,
                    number,
                    f"names a folder of one machine: {match.group(0)}",
                    "compute it from the file's own location, or use a temporary folder (%t, mktemp, tmp_path)",
                )
            for match in URL.finditer(line):
                if not DOCUMENTATION.search(match.group(1)):
                    yield Finding(
                        path,
                        number,
                        f"names the host {match.group(1)}",
                        "leave the host to the machine's pip and apt settings; documents may link to llvm.org, "
                        "arxiv.org, doi.org and github.com",
                    )
            if REGISTRY_OPTION.search(line):
                yield Finding(
                    path, number, "chooses a package registry", "leave that to the machine's pip configuration"
                )
