"""Ports that have one classification loss and no other: the reference, and plain ports in torch, of every spec."""

from __future__ import annotations

from copy import copy

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import CLASSIFICATION
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.reference import FAMILY

from .ports import CORRECT

PORTS = {f"reference-{name}": ReferencePort(spec) for name, spec in FAMILY.items()}
PORTS |= {
    port.name: port
    for port in CORRECT
    if port.name in ("plain-torch", "rtdetr-v2") or port.name.endswith(("-criterion", "-rows"))
}
ONE_EACH = [(name, kind) for name, port in PORTS.items() for kind in sorted(PortUnderTest(port).spec.class_terms)]
"""Every port with every classification loss of its spec."""


def of_one_loss(name, kind):
    """The port, declaring no other classification loss."""
    port = copy(PORTS[name])
    port.name = f"{name}-{kind}"
    port.capabilities = port.capabilities - set(CLASSIFICATION) | {kind}
    return port
