// A relay that keeps what it accepts: serve.cjs PORT CERTIFICATE USER PASSWORD FOLDER MAX_CLIENTS
"use strict";

const fs = require("fs");
const path = require("path");
const { SMTPServer } = require("smtp-server");

const [port, certificate, user, password, folder, maxClients] = process.argv.slice(2);
const pem = fs.readFileSync(certificate, "utf8");
let received = 0;

function refusal(code, text) {
  return Object.assign(new Error(text), { responseCode: code });
}

// Only the refusals are printed, for whoever counts them.
const silent = Object.fromEntries(
  ["trace", "info", "warn", "error", "fatal"].map((level) => [level, () => {}])
);
const logger = {
  ...silent,
  debug: (entry, text, payload) => entry.tnx === "send" && /^421/.test(payload) && console.log(payload),
};

new SMTPServer({
  name: "relay.example.com",
  key: pem,
  cert: pem,
  authOptional: true,
  authMethods: ["PLAIN", "LOGIN", "CRAM-MD5"],
  size: 1048576,
  hideDSN: false,
  disableReverseLookup: true,
  maxClients: Number(maxClients) || Infinity,
  logger,
  onAuth(auth, session, done) {
    const known =
      auth.username === user &&
      (auth.method === "CRAM-MD5" ? auth.validatePassword(password) : auth.password === password);
    return known ? done(null, { user }) : done(refusal(535, "5.7.8 credentials invalid"));
  },
  onRcptTo(address, session, done) {
    const [local, domain] = address.address.split("@");
    if (local === "unknown") return done(refusal(550, "5.1.1 Unknown user"));
    if (!["example.com", "example.net"].includes(domain) && !session.user)
      return done(refusal(550, "5.7.1 relay not permitted"));
    if (session.envelope.rcptTo.length >= 5) return done(refusal(452, "4.5.3 Too many recipients"));
    return done();
  },
  onData(stream, session, done) {
    const chunks = [];
    stream.on("data", (chunk) => chunks.push(chunk));
    stream.on("end", () => {
      const content = Buffer.concat(chunks);
      if (content.includes("Subject: spam")) return done(refusal(550, "5.7.1 looks like spam"));
      const to = session.envelope.rcptTo.map((recipient) => recipient.address).join(" ");
      const file = path.join(folder, `${String(received++).padStart(6, "0")}.eml`);
      fs.writeFileSync(file, Buffer.concat([Buffer.from(`Envelope-To: ${to}\r\n`), content]));
      return done(null, "2.0.0 accepted");
    });
  },
})
  // A client that does not trust us breaks off; that is its right, and no reason to end.
  .on("error", () => {})
  .listen(Number(port), "127.0.0.1");
