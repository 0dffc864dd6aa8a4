"""The saga as a graph: its steps, and what leads from one to another.

The saga itself is code (`saga`); a test compares the steps that orders went through with this graph.
"""

from __future__ import annotations

from collections.abc import Mapping

from lakehouse.analyses.graph import Edge, Graph, Node

START, ENDS = "request", ("Shipped", "Cancelled", "Rejected")
STEPS = {
    "acknowledge": "reserves stock",
    "charge": "asks the provider",
    "void": "asks what became of the charge",
    "pay": "books the charge",
    "book": "books the stock",
    "deliver": "asks the carrier: the pivot",
    "ship": "schedules the delivery",
    "release": "gives reserved stock back",
    "restock": "gives booked stock back",
    "refund": "asks the provider",
    "refunded": "books the refund",
    "cancel": "ends the order",
    "need_attention": "marks it for a person",
}
"""Step -> what it does."""
TRANSITIONS = {
    (START, "acknowledge"): "",
    ("acknowledge", "charge"): "",
    ("acknowledge", "Rejected"): "can't be met",
    ("charge", "pay"): "accepted",
    ("charge", "release"): "declined",
    ("charge", "void"): "no answer",
    ("void", "pay"): "was charged",
    ("void", "release"): "was not",
    ("pay", "book"): "",
    ("pay", "release"): "customer cancels",
    ("book", "deliver"): "",
    ("book", "release"): "customer cancels, or no stock",
    ("deliver", "ship"): "accepted",
    ("deliver", "restock"): "refused",
    ("ship", "Shipped"): "",
    ("restock", "refund"): "",
    ("release", "refund"): "paid",
    ("release", "cancel"): "not paid",
    ("refund", "refunded"): "",
    ("refunded", "cancel"): "",
    ("cancel", "Cancelled"): "",
    **{(step, "need_attention"): "no answer" for step in ("void", "deliver", "refund")},
    **{("need_attention", step): "again" for step in ("void", "deliver", "refund")},
}
"""(from, to) -> when."""


def saga_graph(states: Mapping[str, str] | None = None) -> Graph:
    """The graph.

    Args:
        states: step -> done or failed, of one order.
    """
    states = states or {}
    nodes = [
        Node(START, (START,), None),
        *(Node(name, (name, text), place, states.get(name, "")) for place, (name, text) in enumerate(STEPS.items())),
        *(Node(end, (end,), None) for end in ENDS),
    ]
    return Graph(tuple(nodes), tuple(Edge(start, end, when) for (start, end), when in TRANSITIONS.items()))
