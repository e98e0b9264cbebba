"""Several connections in one event loop, each sending one mail after the other."""

import asyncio

import aiosmtplib
import order


async def send(mails, port):
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as client:
        for mail in mails:
            await client.send_message(mail.built())


async def main(asked):
    mails = asked.mails()
    await asyncio.gather(*(send(mails, asked.port) for _ in range(asked.connections)))


asked = order.read()
watch = order.Watch()
asyncio.run(main(asked))
order.tell(deliver_s=watch.lap_s())
