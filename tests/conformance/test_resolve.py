from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from detr_conformance.errors import UsageError
from detr_conformance.options import TIMEOUTS, CheckOptions
from detr_conformance.properties.levels import EXAMPLES
from detr_conformance.resolve import BUILT_IN, resolve

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("beside_the_samples")


def resolved(port, **options):
    __tracebackhide__ = True
    return resolve(CheckOptions(port=port, **options))


@pytest.mark.parametrize("attribute", ["good", "factory", "Modest"])
def test_a_port_is_an_instance_or_what_a_function_or_class_returns(attribute):
    port, profile = resolved(f"sample_ports:{attribute}")
    assert port.name in {"good", "ultralytics"}
    assert profile.name == "ultralytics"


def test_the_reference_is_built_in():
    assert resolved("reference")[0].name == "reference"


def test_a_profile_that_is_asked_for_replaces_the_one_that_the_port_names():
    assert resolved("sample_ports:good", profile="rtdetr")[1].name == "rtdetr"


def test_the_adapter_takes_a_loss_class_and_a_generator():
    pytest.importorskip("torch")
    port, _ = resolved("sample_ports:LossClass", adapter="ultralytics", denoising="sample_ports:raises")
    assert port.name == "sample_ports:LossClass"
    assert {"match", "denoising_group"} <= port.capabilities


def test_what_a_module_prints_is_swallowed(capfd):
    sys.modules.pop("sample_ports", None)
    resolved("sample_ports:good")
    assert capfd.readouterr() == ("", "")


REFUSED = {
    "refrence": "did you mean reference? built-in are reference, optimized, optimized-native, optimized-triton, ",
    "": "unknown port ''",
    ":": "not of the form package.module:attribute",
    "a..b:c": "not of the form package.module:attribute",
    "sample_ports.py:good": "(No module named 'sample_ports.py'; 'sample_ports' is not a package): check the spelling",
    "no_such_module:port": "(No module named 'no_such_module'): check the spelling",
    "sample_ports:god": "has no god: did you mean good?",
    "sample_ports:number": "is int, expected a port or a function that returns one",
    "sample_ports:NeedsArgument": "missing 1 required positional argument: '_argument'",
    "sample_ports:returns_none": "NoneType is not a port: it lacks name",
    "sample_ports:raises": "it raised ValueError: two lines; make that work first",
    "sample_ports:exits": "it raised SystemExit: 0; make that work first",
    "sample_ports:NoPort": "a loss class is judged with --adapter ultralytics",
    "sample_ports:ListOfCapabilities": "ListOfCapabilities.capabilities is ['focal'], expected a set",
    "sample_ports:UnknownCapability": "unknown capability 'telepathy', known are: varifocal",
    "sample_ports:LacksMatch": "declares 'match' but has no method match(case)",
    "sample_ports:UnknownDtype": "unknown dtype 'fp32', known are: float16",
    "sample_ports:NamelessPort": "NamelessPort.name is None, expected a str",
    "sample_ports:LacksGain": "port 'odd': options['loss_gain'][0] is {'class': 1.0} and lacks 'bbox', expected a",
    "sample_ports:UnknownProfile": "names the profile 'ultra': did you mean ultralytics? choose one of ultralytics, ",
    "sample_ports:Explosive": "it raised RuntimeError: boom",
}


@pytest.mark.parametrize(("port", "reason"), REFUSED.items())
def test_a_port_that_cannot_be_judged_is_refused_in_one_sentence(port, reason):
    with pytest.raises(UsageError) as refused:
        resolved(port)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


BROKEN_MODULES = {
    "def (": "it raised SyntaxError: invalid syntax (broken.py, line 1)",
    "import sys; print('noise'); sys.exit(5)": "it raised SystemExit: 5",
    "raise KeyError('key')": "it raised KeyError: 'key'",
    "import no_such_module": "(No module named 'no_such_module'): install what it needs",
    "from os import no_such_thing": "it raised ImportError: cannot import name 'no_such_thing' from 'os'",
    "import pytest; pytest.skip('not here', allow_module_level=True)": "it raised Skipped: not here",
    "def __getattr__(name): raise RuntimeError('boom')": "raised RuntimeError: boom",
}


@pytest.mark.parametrize(("text", "reason"), BROKEN_MODULES.items())
def test_a_module_that_does_not_import_is_refused_with_its_own_reason(text, reason, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    with pytest.raises(UsageError) as refused:
        resolved("broken:port")
    assert reason in str(refused.value)


NO_ADAPTER = {
    ("reference", "ultralytics", None): "do not go with the built-in port reference",
    ("sample_ports:good", None, "sample_ports:raises"): "--denoising needs --adapter ultralytics",
    ("sample_ports:LossClass", "detectron", None): "unknown adapter 'detectron': there is ultralytics",
}
WITH_TORCH = {
    ("sample_ports:NoPort", "ultralytics", None): "the ultralytics adapter cannot build NoPort",
    ("sample_ports:number", "ultralytics", None): "is int, expected a loss class",
    ("sample_ports:exits", "ultralytics", None): "cannot build exits",
    ("sample_ports:NotCallable", "ultralytics", None): "needs a loss to call, but NotCallable(nc=2) is NotCallable",
    ("sample_ports:LossClass", "ultralytics", "sample_ports:number"): "expected a function like get_cdn_group",
    ("sample_ports:LossClass", "ultralytics", "sample_ports"): "not of the form package.module:attribute",
}


@pytest.mark.parametrize(("asked", "reason"), (NO_ADAPTER | WITH_TORCH).items())
def test_an_adapter_that_does_not_fit_is_refused(asked, reason):
    if asked in WITH_TORCH:
        pytest.importorskip("torch")
    port, adapter, denoising = asked
    with pytest.raises(UsageError) as refused:
        resolved(port, adapter=adapter, denoising=denoising)
    assert reason in str(refused.value)


def has_distribution(name):
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


@pytest.mark.parametrize("name", [name for name, each in BUILT_IN.items() if each.extra])
def test_a_built_in_port_without_its_package_says_what_to_install(name):
    extra = BUILT_IN[name].extra
    if has_distribution({"fast": "numba"}.get(extra, extra)):
        pytest.skip("its package is installed here")
    with pytest.raises(UsageError) as refused:
        resolved(name)
    assert f"run pip install 'detr-conformance[{extra}]'" in str(refused.value)


@pytest.mark.parametrize("name", [name for name, each in BUILT_IN.items() if each.version])
def test_a_port_of_a_package_names_the_version_that_tox_installs_and_its_own_profile(name):
    built_in = BUILT_IN[name]
    assert f"{built_in.extra}=={built_in.version}" in (ROOT / "constraints.txt").read_text().splitlines()
    assert f'\n{built_in.extra} = ["' in (ROOT / "pyproject.toml").read_text()
    if has_distribution(built_in.extra):
        assert resolved(name)[1].name == built_in.profile


def test_the_triton_port_says_how_to_run_without_a_device(monkeypatch):
    torch = pytest.importorskip("torch")
    device = pytest.importorskip("detr_conformance.optimized.backends.triton.device", reason="needs triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "INTERPRETED", False)
    with pytest.raises(UsageError, match="needs a CUDA device, and torch sees none: set TRITON_INTERPRET=1"):
        resolved("optimized-triton")


def test_every_level_has_a_time_limit():
    assert list(TIMEOUTS) == list(EXAMPLES)
