"""A Django project of one app, on the database that the bench lends."""

import django
import order
from django.conf import settings as configured
from django.core.management import call_command


def configure(asked: order.Order, app: str, **settings: object) -> None:
    """Set Django up and make its tables."""
    database = asked.postgresql
    configured.configure(
        INSTALLED_APPS=[app],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": database["name"],
                "USER": database["user"],
                "PASSWORD": database["password"],
                "HOST": database["host"],
                "PORT": database["port"],
            }
        },
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=asked.port,
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        SECRET_KEY="only-for-the-bench",
        **settings,
    )
    django.setup()
    call_command("migrate", verbosity=0)
