"""Which way of quantizing is kept: the first one that is right and fast, and why the ones before it were not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from edgedistill.bundle import StudentForm, sha256_of
from edgedistill.convert import parity
from edgedistill.convert.forms import Forms
from edgedistill.convert.job import Attempt
from edgedistill.convert.measure import Bench, Measured
from edgedistill.convert.parity import LayerError
from edgedistill.convert.quantize import Work, names, quantize
from edgedistill.errors import ConvertError, ParityError
from edgedistill.recipe import Export

ISLANDS = "static_int8_float_islands"
#: Layers that break parity and stay float, at most; and the signal-to-noise ratio that counts as exact, in dB.
_MOST_ISLANDS, _EXACT_DB = 5, 60.0


class Way(NamedTuple):
    """A form of the student and a recipe, and layers that break parity and therefore stay float."""

    student: StudentForm
    quantization: str
    islands: tuple[str, ...] = ()

    def __str__(self) -> str:
        form = "" if self.student == "trained" else f", {self.student.replace('_', '-')}"
        return self.quantization + form + (f", float: {', '.join(self.islands)}" if self.islands else "")


@dataclass
class Search:
    """What was tried for one format, and the best of it; the file that is kept lies in `folder`."""

    kind: str
    folder: Path
    attempts: list[Attempt] = field(default_factory=list)
    kept: Measured | None = None
    _seen: dict[str, Way] = field(default_factory=dict)

    def run(self, ways: list[Way], forms: Forms, bench: Bench) -> Measured:
        """Try the ways in their order until one passes both gates; without one, keep the first that answers rightly.

        Raises ParityError, with all that was tried, where none answers rightly, and ConvertError where a single way cannot be written.
        """
        right: list[tuple[int, Measured]] = []
        waiting, alone = list(ways), len(ways) == 1
        while waiting:
            way = waiting.pop(0)
            measured = self._try(way, forms, bench, alone=alone)
            if measured is None:
                continue
            if measured.rung.ok:
                right.append((len(self.attempts) - 1, measured))
                if measured.audit.ok or alone:
                    return self._keep(*right[-1], verdict="kept")
            elif self.kind == "tflite" and way.quantization == ISLANDS and not way.islands:
                waiting[:0] = [way._replace(islands=breaking(measured.path, forms.work(way.student, self.kind)))]
        if not right:
            raise self._nothing_right(forms, bench)
        return self._keep(*right[0], verdict="kept: answers rightly; no way is also fast")

    def _try(self, way: Way, forms: Forms, bench: Bench, *, alone: bool) -> Measured | None:
        suffix = "fp16" if way.quantization == "float16" else "int8"
        path = self.folder / f"{len(self.attempts)}" / f"{bench.job.name}-{suffix}.{self.kind}"
        path.parent.mkdir(parents=True)
        try:
            work = replace(forms.work(way.student, self.kind), islands=way.islands)
            with bench.steps(f"quantizing {self.kind}: {way}"):
                quantize(self.kind, way.quantization, work, path)
        except ConvertError as error:
            if alone:
                raise
            self._note(way, f"dropped: {error}")
            return None
        twin = self._seen.setdefault(sha256_of(path), way)
        if twin != way:
            self._note(way, f"dropped: the same file as {twin}")
            return None
        measured = bench.measure(path, quantization=way.quantization, student=way.student)
        self._note(way, _verdict(measured), measured)
        return measured

    def _note(self, way: Way, verdict: str, measured: Measured | None = None) -> None:
        rung, found = (measured.rung, measured.audit) if measured is not None else (None, None)
        self.attempts.append(
            Attempt(self.kind, way.student, way.quantization, kept=False, verdict=verdict, rung=rung, audit=found, islands=way.islands)
        )

    def _keep(self, index: int, measured: Measured, *, verdict: str) -> Measured:
        self.attempts[index] = self.attempts[index]._replace(kept=True, verdict=verdict)
        self.kept = measured
        return measured

    def _nothing_right(self, forms: Forms, bench: Bench) -> Exception:
        """Return the error that shows what every way lost, and where the least bad one loses it."""
        found = [(attempt.rung, i) for i, attempt in enumerate(self.attempts) if attempt.rung is not None]
        if not found:
            return ConvertError(f"no way of quantizing {self.kind} could be written: {self.attempts[-1].verdict}; export without int8")
        best, index = min(found, key=lambda pair: pair[0].drop)
        worst = worst_layers(self.folder, index, self.attempts[index], forms)
        tried = "; ".join(
            f"{self.attempts[i].quantization} of the {self.attempts[i].student} student loses {rung.drop:.2%}" for rung, i in found
        )
        where = "\n".join(f"  {error}" for error in worst)
        return ParityError(
            f"{best.file} does not answer like the student: {tried}; allowed is {best.budget}. Calibrate on more images "
            "(export.calibration), train with fake quantization (--int8 qad), allow more (export.max_int8_drop), or export without int8",
            parity.table([rung for rung, _ in found]) + (f"\nworst layers by signal-to-noise:\n{where}" if where else ""),
        )


def breaking(path: Path, work: Work) -> tuple[str, ...]:
    """Return the layers, five at most, whose output has most more noise than what goes into them, in the order of the student.

    A block that holds other layers is not one of them: all within would stay float.
    """
    layers = set(work.graph.layers.values())
    single = [
        one for one in parity.worst_layers(path, work, count=len(layers)) if not any(name.startswith(f"{one.layer}.") for name in layers)
    ]
    lost = sorted(single, key=lambda one: one.snr_db - min(one.before_db, _EXACT_DB))[:_MOST_ISLANDS]
    return tuple(sorted((one.layer for one in lost), key=list(dict.fromkeys(work.graph.layers.values())).index))


def worst_layers(folder: Path, index: int, attempt: Attempt, forms: Forms) -> list[LayerError]:
    """Return the five worst layers of a file that was tried."""
    assert attempt.rung is not None
    path = folder / f"{index}" / attempt.rung.file
    return parity.worst_layers(path, forms.work(attempt.student, attempt.format))


def ways(settings: Export, kind: str) -> list[Way]:
    """Return the ways that the settings ask to try for a format, in order."""
    return list(_ways(settings, kind))


def _ways(settings: Export, kind: str) -> Iterator[Way]:
    if settings.int8 == "qad":
        yield Way("quantization_aware", ISLANDS)
    elif settings.int8 not in (True, "auto"):
        yield Way("trained", str(settings.int8))
    else:
        for name in names(kind):
            yield Way("trained", name)
            if name == ISLANDS and settings.equalize:
                yield Way("equalized", name)


def _verdict(measured: Measured) -> str:
    if not measured.rung.ok:
        return f"dropped: loses {measured.rung.drop:.2%} of accuracy, allowed is {measured.rung.budget}"
    if not measured.audit.ok:
        return "dropped: " + "; ".join(finding.cause for finding in measured.audit.findings if finding.fails)
    return "right and fast"
