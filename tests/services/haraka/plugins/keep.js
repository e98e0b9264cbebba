// Takes mail for example.com and example.net, refuses unknown@…, keeps what it accepts in KEPT.
'use strict'

const fs = require('node:fs')
const path = require('node:path')

let received = 0

exports.hook_rcpt = (next, connection, [recipient]) =>
    recipient.user === 'unknown' ? next(DENY, '5.1.1 Unknown user') : next(OK)

exports.hook_queue = (next, connection) => {
    const { rcpt_to: recipients, message_stream: message } = connection.transaction
    const name = `${String(received++).padStart(6, '0')}.eml`
    const file = fs.createWriteStream(path.join(process.env.KEPT, `.${name}`))
    file.write(`Envelope-To: ${recipients.map((one) => one.address).join(' ')}\r\n`)
    file.once('close', () => {
        fs.renameSync(path.join(process.env.KEPT, `.${name}`), path.join(process.env.KEPT, name))
        next(OK)
    })
    message.pipe(file)
}
