"""The peers. Versions are pinned, so that a later run compares with the same programs."""

from __future__ import annotations

from bench.peers.peer import Peer

PEERS = (
    Peer(
        name="smtplib-tutorial",
        script="smtplib_tutorial.py",
        note="the code of most tutorials: build the message, connect, send, close, for each mail",
    ),
    Peer(
        name="smtplib",
        script="smtplib_one_connection.py",
        note="one connection, `EmailMessage` built for each recipient",
    ),
    Peer(
        name="aiosmtplib",
        script="aiosmtplib_pool.py",
        packages=("aiosmtplib==5.1.3",),
        note="10 connections in one event loop, `EmailMessage` built for each recipient",
    ),
    Peer(
        name="flask-mail",
        script="flask_mail_connection.py",
        packages=("Flask-Mail==0.10.0", "Flask==3.1.3"),
        note="`with mail.connect()`, its way of sending bulk mail",
    ),
    Peer(
        name="nodemailer",
        script="nodemailer_pool.js",
        packages=("nodemailer@10.6.0",),
        note="`pool: true`, no limit of messages a connection",
    ),
    Peer(
        name="django-mailer",
        script="django_mailer_queue.py",
        packages=("django-mailer==2.3.2", "Django>=5.2,<5.3", "psycopg[binary]==3.3.9"),
        is_durable=True,
        needs=frozenset({"postgresql"}),
        note="enqueued by one `send_messages`, delivered by `send_all`, on PostgreSQL",
    ),
    Peer(
        name="django-post-office",
        script="post_office_queue.py",
        packages=("django-post-office==3.12.0", "Django>=5.2,<5.3", "psycopg[binary]==3.3.9"),
        is_durable=True,
        needs=frozenset({"postgresql"}),
        note="enqueued by `send_many`, delivered by `send_queued_mail_until_done` with batches of "
        "5,000 and 5 threads, on PostgreSQL",
    ),
    Peer(
        name="celery",
        script="celery_redis.py",
        packages=("celery[redis]==5.7.0", "packaging"),
        is_durable=True,
        needs=frozenset({"redis"}),
        note="a task a mail, Redis as broker and result backend (not on disk), prefork with 2 "
        "processes, a kept `smtplib` connection in each, prefetch 64",
    ),
    Peer(
        name="procrastinate",
        script="procrastinate_worker.py",
        packages=("procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9"),
        is_durable=True,
        needs=frozenset({"postgresql"}),
        note="a job a mail, `batch_defer`, a worker of concurrency 10 on PostgreSQL, kept "
        "`smtplib` connections",
    ),
)

BY_NAME = {peer.name: peer for peer in PEERS}
