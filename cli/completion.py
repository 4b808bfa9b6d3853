# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Completion for bash, made from the parser: it knows what the parser knows."""

from __future__ import annotations

import argparse

from .mapping import isp

# Where the parser puts values that are completed without choices.
FILE, ISP = "domain", "isp"
SCRIPT = """\
_softwire_map() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=
    case ${{COMP_WORDS[COMP_CWORD - 1]}} in
    {files})
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
{values}
    *)
        case $COMP_CWORD:${{COMP_WORDS[1]}} in
        1:*) words='{top}' ;;
{subcommands}
        esac
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}}
complete -F _softwire_map {program}"""


def script(parser: argparse.ArgumentParser) -> str:
    """A script that completes the subcommands of a parser, their options, and the values of those that are known."""
    (subcommands,) = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    actions = {name: subcommand._actions for name, subcommand in subcommands.items()}
    with_value = {option: action for several in actions.values() for action in several if action.nargs != 0 for option in action.option_strings}
    return SCRIPT.format(
        program=parser.prog,
        files=" | ".join(option for option, action in with_value.items() if action.dest == FILE),
        values="\n".join(f"    {option}) words='{_known(action)}' ;;" for option, action in with_value.items() if action.dest != FILE),
        top=" ".join([*parser._option_string_actions, *subcommands]),
        subcommands="\n".join(f"        *:{name}) words='{_words(several)}' ;;" for name, several in actions.items()),
    )


def _words(actions: list[argparse.Action]) -> str:
    """The options of a subcommand, and what can stand beside them."""
    return " ".join(" ".join(action.option_strings) or _known(action) for action in actions).strip()


def _known(action: argparse.Action) -> str:
    """The values that an option or argument is known to have; nothing of what is free."""
    return " ".join(isp.services() if action.dest == ISP else action.choices or ())
