"""`peewit verify`: whether a passport that somebody shows is valid. Needs no network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import click
from rich.align import Align
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from peewit_clients.cli.common import NOT_YET, REFUSED, emit, json_option, plain
from peewit_clients.cli.trust import trust_option
from peewit_clients.scan import PREFIXES, scan
from peewit_clients.trusted import load
from peewit_federation.errors import MalformedError, OperatorError, SenderError
from peewit_federation.passports.rules import Rules, open_rules
from peewit_federation.passports.trust import Trust
from peewit_federation.passports.values import product_name
from peewit_federation.passports.verdict import COMPARE, Outcome, Reason, Verdict, verify

COLOURS: Final = {Outcome.VALID: "green", Outcome.NOT_VALID: "red", Outcome.CANNOT_TELL: "yellow"}
NO_CODE: Final = "There is no code that can be read. Try again with more light, flatter, nearer."
EXITS: Final = {Outcome.VALID: 0, Outcome.NOT_VALID: REFUSED, Outcome.CANNOT_TELL: NOT_YET}


@click.command(name="verify")
@click.argument("shown", nargs=-1, required=True)
@trust_option
@click.option("--rules", "rules_path", type=click.Path(path_type=Path, dir_okay=False), help="Signed rules.")
@click.option(
    "--max-age-hours", type=click.FloatRange(0.1, 720), default=24.0, show_default=True,
    help="Lists that are older tell nothing good.",
)  # fmt: skip
@click.option("--names", is_flag=True, help="With --json or several: print names and birth dates too.")
@click.option("--at", "at", default="", help="As of this time (2026-11-22T12:00:00+01:00) instead of now, for tests.")
@json_option
def verify_(
    shown: tuple[str, ...], trust_path: Path, rules_path: Path | None, max_age_hours: float, names: bool, at: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Is it valid? SHOWN is the text of a code, or a file: an image, a PDF, texts, or a folder of camera frames.

    Nothing is stored and nobody is asked. Exit code 0: valid; 3: not valid; 6: cannot tell.
    """
    trust = load(trust_path)
    rules = _rules(rules_path, trust)
    now_s = _moment(at) if at else time.time()
    judged = [
        (name, _judge(texts, why, trust, now_s, rules, max_age_hours * 3600)) for name, texts, why in _all(shown)
    ]  # fmt: skip
    if as_json:
        found = [_plain(name, verdict, names=names) for name, verdict in judged]
        emit(found[0] if len(found) == 1 else found)
    else:
        for name, verdict in judged:
            _show(name, verdict, alone=len(judged) == 1, names=names or len(judged) == 1)
    raise SystemExit(max((EXITS[verdict.outcome] for _, verdict in judged), default=0))


def _all(shown: tuple[str, ...]) -> Iterator[tuple[str, list[str], str]]:
    """(what it is called, the codes in it, why there are none) of each thing. One that is not there stops no other."""
    for one in shown:
        if not one.strip():
            raise click.UsageError("an empty text: nothing was shown")
        if one.lstrip().startswith(PREFIXES):
            yield "text", [one], ""
        elif _is_there(one):
            try:
                yield from [(name, texts, NO_CODE) for name, texts in scan(Path(one))] or [(one, [], "It is empty.")]
            except (SenderError, OperatorError) as error:
                yield one, [], f"{str(error).removeprefix(one + ': ').capitalize()}."
        elif len(shown) > 1:
            yield one[:80], [], "It is neither the text of a passport (HC1:…, PW1:…) nor a file."
        else:
            raise OperatorError(f"{one[:80]!r} is neither the text of a passport (HC1:…, PW1:…) nor a file")


def _is_there(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False  # longer than any file's name


def _judge(texts: list[str], why: str, trust: Trust, now_s: float, rules: Rules | None, limit_s: float) -> Verdict:
    if not texts:
        return Verdict(Outcome.CANNOT_TELL, Reason.UNREADABLE, why)
    if len(texts) > 1:
        words = f"There are {len(texts)} codes. Show one at a time."
        return Verdict(Outcome.CANNOT_TELL, Reason.UNREADABLE, words)
    return verify(texts[0], trust, now_s, rules, limit_s)


def _rules(path: Path | None, trust: Trust) -> Rules | None:
    if path is None:
        return None
    try:
        return open_rules(path.read_bytes(), trust.rule_keys)
    except MalformedError as error:
        raise OperatorError(f"{path}: not signed rules ({error}); make them with `peewit trust rules`") from None
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
    except SenderError as error:
        raise OperatorError(f"{path}: {error}") from None


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise click.UsageError(f"--at {text}: write it as 2026-11-22T12:00:00+01:00") from None


def _plain(name: str, verdict: Verdict, *, names: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "source": name, "verdict": verdict.outcome.value, "reason": verdict.reason.value, "words": verdict.words,
    }  # fmt: skip
    if names and (verdict.name or verdict.born or verdict.shown):
        found |= {"name": verdict.name, "born": verdict.born, "shown": dict(verdict.shown)}
    return found


def _show(name: str, verdict: Verdict, *, alone: bool, names: bool) -> None:
    colour = COLOURS[verdict.outcome]
    if not alone:
        reason = f" ({verdict.reason.value})" if verdict.reason.value else ""
        person = f"  {verdict.name}, {verdict.born}" if names and verdict.name else ""
        line = Text(f"{verdict.outcome.value}{reason}", style=f"bold {colour}")
        Console(highlight=False).print(line, Text(plain(f" {name}{person}")))
        if not verdict.words.startswith(COMPARE):
            Console(highlight=False).print(Text(plain(f"  {verdict.words}"), style="dim"))
        return
    lines = [Text(verdict.outcome.value.upper(), style=f"bold {colour}", justify="center")]
    if verdict.name:
        lines += [Text(""), Text(plain(verdict.name), style="bold", justify="center")]
    if verdict.born:
        lines.append(Text(f"born {plain(verdict.born)}", style="bold", justify="center"))
    lines += [Text(""), Text(plain(verdict.words), justify="center")]
    for claim, value in verdict.shown:
        if claim in ("vaccine", "doses", "day"):
            value = product_name(value) if claim == "vaccine" else value
            lines.append(Text(plain(f"{claim}: {value}"), style="dim", justify="center"))
    Console(highlight=False).print(Panel(Align.center(Group(*lines)), border_style=colour, width=64))
