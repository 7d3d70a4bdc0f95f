"""From what a user typed to a port that can be judged. Whatever goes wrong is one sentence."""

from __future__ import annotations

import difflib
import importlib
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from detr_conformance.errors import UsageError, described, one_line
from detr_conformance.isolation.output import silence
from detr_conformance.options import COMMAND, CheckOptions
from detr_conformance.properties.port import Port, check_port
from detr_conformance.reference import FAMILY, LossSpec


class BuiltIn(NamedTuple):
    """A port that comes with the suite.

    Attributes:
        module: where its function `port()` is.
        about: what it is, for `detr-conformance list`.
        profile: name of the spec that it is held to.
        extra: the extra of this package that installs what it judges, if it needs more than the suite itself.
        version: that of the package of that name which docs/findings.md is about, where the port is somebody else's.
        factory: the function, where it is not `port`.
    """

    module: str
    about: str
    profile: str = "ultralytics"
    extra: str | None = None
    version: str | None = None
    factory: str = "port"

    @property
    def judged(self) -> str:
        """Package and version that it judges; empty where the port is our own."""
        return f"{self.extra} {self.version}" if self.version else ""


def _foreign(extra: str, version: str) -> Callable[[str, str, str, str], BuiltIn]:
    """Makes the ports of a package: from a module of `detr_conformance.ports`, factory, profile, and what it is."""

    def built_in(module: str, factory: str, profile: str, about: str) -> BuiltIn:
        return BuiltIn(f"detr_conformance.ports.{module}", about, profile, extra, version, factory)

    return built_in


_ultralytics = _foreign("ultralytics", "8.4.190")
_transformers = _foreign("transformers", "5.23.0")
_lightly = _foreign("lightly-train", "0.18.0")
_rfdetr = _foreign("rfdetr", "1.11.2")
_mmdet = _foreign("mmdet", "3.3.0")
_keras_hub = _foreign("keras-hub", "0.32.0")
_paddledet = _foreign("paddledet", "2.6.0")

BUILT_IN = {
    "reference": BuiltIn("detr_conformance.ports.reference_port", "the NumPy reference itself"),
    "optimized": BuiltIn("detr_conformance.ports.optimized", "our own loss in torch, on the CPU", extra="torch"),
    "optimized-native": BuiltIn(
        "detr_conformance.ports.optimized", "the same compiled by numba", extra="fast", factory="native_port"
    ),
    "optimized-triton": BuiltIn(
        "detr_conformance.ports.optimized",
        "its Triton kernels, on CUDA; without a device on the CPU with TRITON_INTERPRET=1",
        extra="triton",
        factory="triton_port",
    ),
    "optimized-transformers": BuiltIn(
        "detr_conformance.ports.optimized_faces", "the same for RT-DETR of transformers", "rtdetr-varifocal", "torch"
    ),
    "optimized-transformers-dfine": BuiltIn(
        "detr_conformance.ports.optimized_faces",
        "the same for D-FINE of transformers",
        "transformers-dfine-varifocal",
        "torch",
        factory="dfine_port",
    ),
    "optimized-rtdetr": BuiltIn(
        "detr_conformance.ports.optimized_faces",
        "the same for the RT-DETR repositories",
        "rtdetr",
        "torch",
        factory="rtdetr_port",
    ),
    "ultralytics": _ultralytics("ultralytics", "port", "ultralytics", "RTDETRDetectionLoss"),
    "transformers-rtdetr": _transformers("transformers_rtdetr", "port", "rtdetr", "RT-DETR"),
    "transformers-rtdetrv2": _transformers("transformers_rtdetr", "v2_port", "rtdetr", "RT-DETRv2"),
    "transformers-dfine": _transformers(
        "transformers_dfine", "port", "transformers-dfine", "D-FINE, which unites no matchings"
    ),
    "transformers-deimv2": _transformers("transformers_dfine", "deimv2_port", "transformers-deim", "DEIMv2"),
    "transformers-detr": _transformers("transformers_detr", "port", "detr", "DETR, YOLOS, Table Transformer"),
    "transformers-deformable": _transformers("transformers_detr", "deformable_port", "deformable", "Deformable DETR"),
    "transformers-detr-masks": _transformers("transformers_detr", "masks_port", "detr-masks", "DETR for segmentation"),
    "transformers-deformable-masks": _transformers(
        "transformers_detr", "deformable_masks_port", "deformable-masks", "Conditional DETR for segmentation"
    ),
    "transformers-conditional": _transformers(
        "transformers_detr", "conditional_port", "deformable", "Conditional and DAB-DETR"
    ),
    "transformers-lw-detr": _transformers("transformers_detr", "lw_detr_port", "lwdetr", "LW-DETR and RF-DETR"),
    "transformers-rf-detr": _transformers(
        "transformers_rfdetr", "port", "transformers-rfdetr", "RF-DETR for segmentation"
    ),
    "lightly-rtdetr": _lightly("lightly_train", "port", "rtdetr", "RTDETRCriterionv2"),
    "lightly-dfine": _lightly("lightly_train", "dfine_port", "lightly-dfine", "DFINECriterion"),
    "rfdetr": _rfdetr("rfdetr", "port", "rfdetr", "SetCriterion"),
    "rfdetr-masks": _rfdetr("rfdetr", "masks_port", "rfdetr-masks", "SetCriterion for segmentation"),
    "mmdet-detr": _mmdet("mmdet", "detr_port", "mmdet-detr", "DETRHead"),
    "mmdet-deformable": _mmdet("mmdet", "port", "mmdet", "DeformableDETRHead"),
    "mmdet-dino": _mmdet("mmdet", "dino_port", "mmdet", "DINOHead"),
    "keras-dfine": _keras_hub("keras_hub_dfine", "port", "keras-dfine", "D-FINE, with CIoU"),
    "paddledet": _paddledet("paddledet", "port", "paddledet", "DINOLoss"),
}
ADAPTERS = ("ultralytics",)
OTHER_PORTS = "any other is written package.module:attribute"


def resolve(options: CheckOptions) -> tuple[Port, LossSpec]:
    """The port, and the profile to hold it to.

    What the modules of port and profile print while they are imported is not shown: it would mix with the run's own
    output.

    Raises:
        UsageError: there is no such port or profile, or the port cannot be judged.
    """
    with silence():
        if ":" in options.port or ":" in (options.profile or ""):
            _make_current_folder_importable()
        port = _port(options)
        return port, _profile(options, port)


def _port(options: CheckOptions) -> Port:
    if options.adapter == COMMAND:
        return _started(options)
    if ":" not in options.port:
        return _built_in(options)
    return _adapted(options) if options.adapter else _own(options)


def _built_in(options: CheckOptions) -> Port:
    name = options.port
    if name not in BUILT_IN:
        known = f"built-in are {', '.join(BUILT_IN)}; {OTHER_PORTS}"
        raise UsageError(f"unknown port {one_line(name)!r}: {_meant(name, BUILT_IN)}{known}")
    if options.adapter or options.denoising:
        raise UsageError(f"--adapter and --denoising do not go with the built-in port {name}: leave them out")
    built_in = BUILT_IN[name]
    try:
        port: Port = getattr(importlib.import_module(built_in.module), built_in.factory)()
    except ImportError as error:
        raise UsageError(
            f"the port {name} needs a package that does not import ({described(error)}): "
            f"run pip install 'detr-conformance[{built_in.extra}]'"
        ) from error
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"the port {name} cannot be loaded ({described(error)}): reinstall its package") from error
    return port


def _started(options: CheckOptions) -> Port:
    """A port that a command starts."""
    from detr_conformance.protocol.command_port import CommandPort

    return _checked(f"--command {options.port}", CommandPort(options.port))


def _meant(name: str, known: Iterable[str]) -> str:
    """A question for who has misspelt a name; empty where nothing is like it."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}? " if close else ""


def _own(options: CheckOptions) -> Port:
    """A Port, or what a factory of one returns."""
    if options.denoising:
        raise UsageError("--denoising needs --adapter ultralytics: a port brings its own denoising_group")
    found = _attribute(options.port)
    with _blamed_on(f"{options.port} is no port: it"):
        is_instance = not isinstance(found, type) and isinstance(found, Port)
    if not is_instance:
        if not callable(found):
            raise UsageError(
                f"{options.port} is {type(found).__name__}, expected a port or a function that returns one"
            )
        with _blamed_on(f"{options.port}() has to return a port, but it"):
            found = found()
    with _blamed_on(f"{options.port} is no port: it"):
        return _checked(options.port, found)


def _checked(spec: str, candidate: object) -> Port:
    try:
        return check_port(candidate)
    except (TypeError, ValueError) as error:
        hint = "" if isinstance(candidate, Port) else "; a loss class is judged with --adapter ultralytics"
        raise UsageError(f"{spec} cannot be judged: {one_line(error)}{hint}") from error


def _adapted(options: CheckOptions) -> Port:
    """A loss class with a signature that the suite knows."""
    if options.adapter not in ADAPTERS:
        raise UsageError(f"unknown adapter {one_line(options.adapter)!r}: there is {', '.join(ADAPTERS)}")
    try:
        from detr_conformance.ports.ultralytics import UltralyticsPort
    except ImportError as error:
        raise UsageError(
            f"the adapter needs torch ({described(error)}): pip install 'detr-conformance[torch]'"
        ) from error
    loss_class = _callable(options.port, "a loss class")
    denoising = _callable(options.denoising, "a function like get_cdn_group") if options.denoising else None
    try:
        with _blamed_on(f"the adapter ultralytics does not fit {options.port}: it", TypeError):
            return UltralyticsPort(loss_class, denoising, name=options.port)
    except TypeError as error:
        raise UsageError(f"{options.port}: {one_line(error)}; write a port of its own, see the README") from error


def _callable(spec: str, what: str) -> Callable[..., Any]:
    found = _attribute(spec)
    if not callable(found):
        raise UsageError(f"{spec} is {type(found).__name__}, expected {what}")
    return found


def _attribute(spec: str) -> object:
    """What `package.module:attribute` stands for."""
    module_name, _, name = spec.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), name)):
        raise UsageError(f"{one_line(spec)!r} is not of the form package.module:attribute")
    module = _module(module_name)
    with _blamed_on(f"{spec} cannot be read: the module", AttributeError):
        if hasattr(module, name):
            found: object = getattr(module, name)
            return found
        close = difflib.get_close_matches(name, dir(module))
    hint = f"did you mean {' or '.join(close)}?" if close else "check the spelling"
    raise UsageError(f"the module {module_name} has no {name}: {hint}")


def _module(name: str) -> ModuleType:
    try:
        with _blamed_on(f"the module {name} does not import: it", ModuleNotFoundError):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            hint = "check the spelling, or run in the folder that it can be imported from"
        else:
            hint = "install what it needs"
        raise UsageError(f"the module {name} does not import ({one_line(error)}): {hint}") from error


def _profile(options: CheckOptions, port: Port) -> LossSpec:
    """The spec of the family, or somebody's own, that `--profile` names; by default the port's."""
    chosen = port.profile if options.profile is None else options.profile
    if isinstance(chosen, LossSpec):
        return _told_apart(chosen)
    if chosen in FAMILY:
        return FAMILY[chosen]
    if options.profile is not None and ":" in chosen:
        found = _attribute(chosen)
        if isinstance(found, LossSpec):
            return _told_apart(found)
        raise UsageError(f"--profile {chosen} is {type(found).__name__}, expected a LossSpec")
    owner = f"port {one_line(port.name)!r} names the" if options.profile is None else "there is no"
    raise UsageError(
        f"{owner} profile {one_line(chosen)!r}: {_meant(chosen, FAMILY)}choose one of {', '.join(FAMILY)}, "
        "or package.module:SPEC, with --profile"
    )


def _told_apart(spec: LossSpec) -> LossSpec:
    """The spec, if its name stands for no other one: reports and packets name it."""
    if FAMILY.get(spec.name, spec) is not spec or ":" in spec.name:
        raise UsageError(
            f"a profile of your own is called {one_line(spec.name)!r}: give it a name without a colon, and none of "
            f"{', '.join(FAMILY)}"
        )
    return spec


@contextmanager
def _blamed_on(sentence: str, *expected: type[BaseException]) -> Iterator[None]:
    """Turn whatever foreign code raises into a sentence that begins like this; let the expected through."""
    let_through: tuple[type[BaseException], ...] = (UsageError, KeyboardInterrupt, *expected)
    try:
        yield
    except let_through:
        raise
    except BaseException as error:  # not only Exception: modules call sys.exit, and pytest's Skipped is none either
        raise UsageError(f"{sentence} raised {described(error)}; make that work first") from error


def _make_current_folder_importable() -> None:
    """Before installed packages, as `python -m` has it, but after the standard library, which it cannot shadow."""
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        library = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
        of_library = [place for place, folder in enumerate(sys.path) if library & {Path(folder), Path(folder).parent}]
        installed = [place for place in of_library if Path(sys.path[place]).name.endswith("-packages")]
        sys.path.insert(max({*of_library} - {*installed}, default=-1) + 1, here)
