"""Print what a shell needs to complete `recs`: the commands, the options of each, the values that an option may have.

    recs completion bash > ~/.recs.bash && echo 'source ~/.recs.bash' >> ~/.bashrc
    recs completion zsh > ~/.recs.zsh && echo 'source ~/.recs.zsh' >> ~/.zshrc

It is plain shell, read out of the commands' own help: no Python starts when TAB is pressed.  Make it anew after an update.
"""
from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from importlib import import_module, resources

from recs.jobs._cli import Parser

Options = dict[str, list[str]]      # option -> the values it may have; none: anything, file names are offered

# %s: commands; cases of options; cases of values
BASH = """_recs() {
    local word=${COMP_WORDS[COMP_CWORD]} options= values=
    if [[ $COMP_CWORD == 1 ]]; then COMPREPLY=($(compgen -W "%s" -- "$word")); return; fi
    case ${COMP_WORDS[1]} in
%s
    esac
    case "${COMP_WORDS[1]} ${COMP_WORDS[COMP_CWORD-1]}" in
%s
    esac
    if [[ $word == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$word"))
    elif [[ $values ]]; then COMPREPLY=($(compgen -W "$values" -- "$word")); fi
}
complete -o default -F _recs recs
"""
ZSH = """#compdef recs
_recs() {
    local options= values=
    if (( CURRENT == 2 )); then compadd -- %s; return; fi
    case $words[2] in
%s
    esac
    case "$words[2] $words[CURRENT-1]" in
%s
    esac
    if [[ $PREFIX == -* ]]; then compadd -- ${=options}
    elif [[ -n $values ]]; then compadd -- ${=values}; _files
    else _files; fi
}
compdef _recs recs
"""
SHELLS = {"bash": BASH, "zsh": ZSH}


def options_of_job(module: str) -> Options:
    """Read out of the job's help."""
    with redirect_stdout(io.StringIO()) as said, suppress(SystemExit):
        import_module(f"recs.jobs.{module}").main(["--help"])
    found = re.findall(r"^  (?:-\w, )?(--[a-z-]+)(?: \{([^}]*)\})?", said.getvalue(), re.MULTILINE)
    return {name: values.split(",") if values else [] for name, values in found}


def commands() -> Iterator[tuple[str, Options]]:
    """Every command with its options, in the order of `recs --help`."""
    from recs.jobs.cli import STAGES, click_commands

    for name, module, *_ in STAGES:
        yield name, {"--help": []} if name == "completion" else options_of_job(module)
    for name, options in click_commands():
        yield name, dict.fromkeys(options, [])


def script(shell: str) -> str:
    """The text to source."""
    shipped = [p.name.removesuffix(".yaml") for p in resources.files("recs.configs").iterdir() if p.name.endswith(".yaml")]
    options, values = [], []
    known = dict(commands())
    for name, mine in known.items():
        options.append(f'        {name}) options="{" ".join(mine)}" ;;')
        for option, words in (mine | ({"--config": sorted(shipped)} if "--config" in mine else {})).items():
            if words:
                values.append(f'        "{name} {option}") values="{" ".join(words)}" ;;')
    return SHELLS[shell] % (" ".join(known), "\n".join(options), "\n".join(values))


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("shell", choices=SHELLS, help="for which shell")
    print(script(p.parse_args(argv).shell), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
