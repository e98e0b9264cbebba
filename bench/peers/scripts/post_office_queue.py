"""django-post-office: a row a mail, sent in batches by threads."""

import django_setup
import order

asked = order.read()
django_setup.configure(
    asked,
    "post_office",
    EMAIL_BACKEND="post_office.EmailBackend",
    POST_OFFICE={
        "BATCH_SIZE": 5000,
        "THREADS_PER_PROCESS": 5,
        "DEFAULT_PRIORITY": "medium",
        "BACKENDS": {"default": "django.core.mail.backends.smtp.EmailBackend"},
    },
    TEMPLATES=[
        {
            "BACKEND": "post_office.template.backends.post_office.PostOfficeTemplates",
            "APP_DIRS": True,
            "OPTIONS": {"context_processors": []},
        },
        {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True},
    ],
)

from post_office import mail as post_office  # noqa: E402
from post_office.mail import send_queued_mail_until_done  # noqa: E402
from post_office.models import STATUS, Email  # noqa: E402

watch = order.Watch()
post_office.send_many(
    [
        {
            "sender": mail.sender,
            "recipients": [mail.to],
            "subject": mail.subject,
            "message": mail.text,
            "html_message": mail.html,
        }
        for mail in asked.mails()
    ]
)
enqueue_s = watch.lap_s()
send_queued_mail_until_done(processes=1)
deliver_s = watch.lap_s()
recorded = Email.objects.filter(status=STATUS.sent).count()
order.tell(enqueue_s=enqueue_s, deliver_s=deliver_s, recorded=recorded)
