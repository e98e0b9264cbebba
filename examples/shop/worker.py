"""The shop for Celery's own processes: ``celery --app examples.shop.worker worker --beat``.

Settings come from the same ``FLASK_…`` variables as those of its pages.
"""

from __future__ import annotations

from examples.shop.app import create_app
from examples.shop.tasks import celery_of

celery = celery_of(create_app())
