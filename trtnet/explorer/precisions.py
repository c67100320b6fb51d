"""Precision: which entry of the policy decides each module, and what other choices would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trtnet.explorer.subject import Subject
from trtnet.precision.policy import Explanation, Policy
from trtnet.precision.policy_file import toml_text

_TABLES = ("keep", "kinds")


@dataclass(frozen=True)
class Decisions:
    """What the policy says of each module.

    Attributes:
        explained: one row for each module that computes, or has no modules inside.
        entries: number of the entry of :func:`policy_entries` that decided, by module path.
    """

    explained: list[Explanation]
    entries: Mapping[str, int]


def decisions(subject: Subject) -> Decisions:
    """Of all modules of `subject`; none for a graph."""
    policy = subject.policy
    if policy is None or subject.network is None:
        return Decisions([], {})
    numbers = {
        (entry["where"], entry["key"]): row for row, entry in enumerate(policy_entries(policy))
    }
    found = {}
    for prefix, root in subject.roots:
        for path, module in root.named_modules(prefix=prefix):
            if module.computes:
                groups = getattr(module, "groups", 1)
                found[path] = numbers[policy.decide(path, module.computes, groups).entry]
    return Decisions(policy.explain(subject.network), found)


def policy_entries(policy: Policy) -> list[dict[str, Any]]:
    """The entries of `policy` in the order of its file, each with its line there, from 1."""
    lines = toml_text(policy.as_dict()).split("\n")
    entries, line = [], 0
    for name, value in policy.as_dict().items():
        if name in _TABLES:
            line = lines.index(f"[{name}]", line) + 1
            for key, precision in value.items():
                line += 1
                entries.append({"where": name, "key": key, "value": precision, "line": line})
        else:
            line += 1
            entries.append({"where": name, "key": "", "value": value, "line": line})
    return entries


def policy_json(subject: Subject, command: str) -> dict[str, Any] | None:
    """The policy of `subject` for the page; ``None`` for a graph.

    Args:
        subject: the network.
        command: builds the model with a policy of the file ``policy.toml``.
    """
    policy = subject.policy
    if policy is None:
        return None
    return {
        "policy": {"toml": toml_text(policy.as_dict()), "text": str(policy)},
        "entries": policy_entries(policy),
        "command": command,
    }
