"""Jinja templates: named by the application, rendered or frozen at enqueue, always in a sandbox."""

from __future__ import annotations

from postroom.message.templates.budget import DEFAULT_BUDGET, Meter, RenderBudget
from postroom.message.templates.bundle import TemplateSet, template_set
from postroom.message.templates.environment import Templates, TemplatesLike
from postroom.message.templates.freezing import freeze
from postroom.message.templates.frozen import FrozenTemplate
from postroom.message.templates.json_values import pack_json, unpack_json
from postroom.message.templates.template import Template

__all__ = [
    "DEFAULT_BUDGET",
    "FrozenTemplate",
    "Meter",
    "RenderBudget",
    "Template",
    "TemplateSet",
    "Templates",
    "TemplatesLike",
    "freeze",
    "pack_json",
    "template_set",
    "unpack_json",
]
