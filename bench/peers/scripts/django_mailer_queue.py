"""django-mailer: a row a mail, sent by ``send_all`` over one connection."""

import tempfile
from pathlib import Path

import django_setup
import order

asked = order.read()
lock = tempfile.mkdtemp()
django_setup.configure(
    asked,
    "mailer",
    EMAIL_BACKEND="mailer.backend.DbBackend",
    MAILER_LOCK_PATH=str(Path(lock) / "lock"),
)

from django.core.mail import EmailMultiAlternatives, get_connection  # noqa: E402
from mailer.engine import send_all  # noqa: E402
from mailer.models import Message, MessageLog  # noqa: E402


def built(mail):
    message = EmailMultiAlternatives(mail.subject, mail.text, mail.sender, [mail.to])
    message.attach_alternative(mail.html, "text/html")
    return message


watch = order.Watch()
get_connection().send_messages([built(mail) for mail in asked.mails()])
enqueue_s = watch.lap_s()
send_all()
deliver_s = watch.lap_s()
assert Message.objects.count() == 0
order.tell(enqueue_s=enqueue_s, deliver_s=deliver_s, recorded=MessageLog.objects.count())
