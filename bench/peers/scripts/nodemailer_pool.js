// nodemailer's pool. Mails are handed over as its documentation says: as long as it is idle.
const nodemailer = require("nodemailer");

const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const transport = nodemailer.createTransport({
  host: "127.0.0.1",
  port: asked.port,
  ignoreTLS: true,
  pool: true,
  maxConnections: asked.connections,
  maxMessages: Infinity,
});

let next = 0;
let done = 0;
const started = process.hrtime.bigint();

function ended(error) {
  if (error) throw error;
  done += 1;
  if (done < asked.count) return;
  const elapsed = Number(process.hrtime.bigint() - started) / 1e9;
  transport.close();
  console.log(JSON.stringify({ deliver_s: elapsed }));
}

function feed() {
  while (next < asked.count && transport.isIdle()) {
    const number = String(next);
    next += 1;
    const own = (body) => (asked.is_each_different ? body.replaceAll("{number}", number) : body);
    transport.sendMail(
      {
        from: asked.sender,
        to: `customer${number}@example.net`,
        subject: asked.subject,
        text: own(asked.text),
        html: own(asked.html),
      },
      ended,
    );
  }
}

transport.on("idle", feed);
