// Reads messages, each after its length in 4 octets, and answers each with a line of JSON.
'use strict';
const { simpleParser } = require('mailparser');

// A group, as that of undisclosed recipients, stands for those in it.
const people = (field) =>
  (field?.value ?? []).flatMap((one) => one.group ?? [one]).map((one) => [one.name, one.address]);

const reading = (mail) => ({
  subject: mail.subject ?? '',
  sender: people(mail.from),
  to: people(mail.to),
  cc: people(mail.cc),
  reply_to: people(mail.replyTo),
  text: mail.text ?? '',
  html: mail.html || '',
  files: mail.attachments.map((file) => [
    file.filename ?? '',
    file.contentType,
    file.content.toString('base64'),
  ]),
});

async function* frames(stream) {
  let waiting = Buffer.alloc(0);
  for await (const chunk of stream) {
    waiting = Buffer.concat([waiting, chunk]);
    while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32BE(0)) {
      const end = 4 + waiting.readUInt32BE(0);
      yield waiting.subarray(4, end);
      waiting = waiting.subarray(end);
    }
  }
}

// Keep what was written: no pictures put in for cid: URLs, no text made of HTML or HTML of text.
const options = { keepCidLinks: true, skipHtmlToText: true, skipTextToHtml: true };

(async () => {
  for await (const message of frames(process.stdin)) {
    process.stdout.write(JSON.stringify(reading(await simpleParser(message, options))) + '\n');
  }
})();
