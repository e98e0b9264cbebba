"""Templates: named by the application, frozen at enqueue, rendered in a sandbox."""

from __future__ import annotations

from postroom.values.template.budget import DEFAULT_BUDGET, Meter, RenderBudget
from postroom.values.template.bundle import Bundle, bundle
from postroom.values.template.environment import Templates, TemplatesLike
from postroom.values.template.freezing import freeze
from postroom.values.template.jsonable import pack, unpack
from postroom.values.template.source import TemplateSource
from postroom.values.template.template import Template

__all__ = [
    "DEFAULT_BUDGET",
    "Bundle",
    "Meter",
    "RenderBudget",
    "Template",
    "TemplateSource",
    "Templates",
    "TemplatesLike",
    "bundle",
    "freeze",
    "pack",
    "unpack",
]
