"""What real relays answer, where it is documented, and whom it blames.

Addresses and hosts are as their sources anonymised them. Where a source does not say in which
phase a reply came, it stands in the phase its relay gives it.
"""

# ruff: noqa: E501 - replies stand as they were said

from __future__ import annotations

from dataclasses import dataclass

from postroom.states import Fault, Phase, RecipientState

SOURCES = {
    # A collection of raw answers, by code; github.com/ActiveCampaign/smtp-field-manual at 67831a2.
    "manual": "https://smtpfieldmanual.com",
    "gmail": "https://support.google.com/a/answer/3726730",
    "icloud": "https://smtp.codes/icloud",
    "yahoo": "https://smtpfieldmanual.com/provider/yahoo",
    "exchange": "https://learn.microsoft.com/en-us/troubleshoot/exchange/email-delivery/ndr/"
    "non-delivery-reports-in-exchange-online",
    "exchange-530": "https://www.easy365manager.com/office-365-ndr-error-codes/",
    "exchange-535": "https://docs.bookyourpto.com/features/smtp-troubleshoot",
    "exchange-send-as": "https://github.com/swiftmailer/swiftmailer/issues/1030",
    "exchange-2013": "https://github.com/nodemailer/nodemailer/issues/145",
    "ses": "https://docs.aws.amazon.com/ses/latest/DeveloperGuide/smtp-response-codes.html",
    "ses-quotas": "https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html",
    "ses-sandbox": "https://github.com/anonaddy/anonaddy/issues/647",
    "sendgrid": "https://www.twilio.com/docs/sendgrid/for-developers/sending-email/"
    "smtp-errors-and-troubleshooting",
    "sendgrid-identity": "https://github.com/sahat/hackathon-starter/issues/1083",
    "sendgrid-login": "https://github.com/Billionmail/BillionMail/issues/171",
    "postfix": "https://github.com/vdukhovni/postfix/blob/master/postfix/src/smtpd/smtpd.c",
    "postfix-checks": "https://github.com/vdukhovni/postfix/blob/master/postfix/src/smtpd/"
    "smtpd_check.c",
    "exim": "https://github.com/Exim/exim/blob/master/src/src/smtp_in.c",
    "exim-relay": "https://github.com/postalserver/postal/issues/647",
    "exim-verify": "https://github.com/PHPMailer/PHPMailer/issues/1187",
    "mailgun": "https://github.com/uilicious/inboxkitten/issues/82",
    "mailtrap": "https://github.com/izmjs/izmjs/issues/26",
    "outmail": "https://support.prolateral.com/index.php?/Knowledgebase/Article/View/187",
}

_RCPT, _DOT, _MAIL = Phase.RCPT, Phase.DOT, Phase.MAIL
_AUTH, _GREETING, _EHLO = Phase.AUTH, Phase.GREETING, Phase.EHLO
_LATER, _NEVER = RecipientState.DEFERRED, RecipientState.REJECTED
_RECIPIENT, _MESSAGE = Fault.RECIPIENT, Fault.MESSAGE
_LOGIN, _RELAY, _OURS = Fault.CREDENTIALS, Fault.RELAY, Fault.OURSELVES


@dataclass(frozen=True, slots=True)
class RealReply:
    """A reply, its source, and what has to follow from it."""

    source: str
    phase: Phase
    text: str
    state: RecipientState
    fault: Fault
    retry_after_s: float | None = None


REAL_REPLIES = [
    # The recipient is unknown, disabled, or wants no mail.
    RealReply(
        "gmail",
        _RCPT,
        "550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's email address for typos or unnecessary spaces.",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 5.2.1 The email account that you tried to reach is disabled. Learn more at https://support.google.com/mail/?p=DisabledUser - gsmtp",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "gmail",
        _RCPT,
        "553 5.1.2 We weren't able to find the recipient domain. Please check for any spelling errors, and make sure you didn't enter any spaces, periods, or other punctuation after the recipient's email address.",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _RCPT,
        "553 5.1.2 The recipient address <example@example.com> is not a valid RFC-5321 address. - gsmtp",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 5.5.0 Requested action not taken: mailbox unavailable. [#.eop-nam12.prod.protection.outlook.com]",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 5.4.1 All recipient addresses rejected : Access denied [#.eop-nam02.prod.protection.outlook.com]",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply("manual", _RCPT, "501 5.1.3 Invalid address [outlook.com]", _NEVER, _RECIPIENT),
    RealReply(
        "yahoo",
        _DOT,
        "554 delivery error: dd This user doesn't have a example.com account (example@example.com) [-9] - example.yahoo.com",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "yahoo",
        _DOT,
        "554 delivery error: dd Sorry, your message to example@example.com cannot be delivered. This mailbox is disabled (554.30). - example.yahoo.com",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "icloud", _RCPT, "550 5.1.1 <example@icloud.com>: user does not exist", _NEVER, _RECIPIENT
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 5.1.1 <example@comcast.net> recipient mailbox unallocated",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 Message was not accepted -- invalid mailbox. Local mailbox example@mail.ru is unavailable: account is disabled",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _RCPT,
        "540 5.7.1 <example@rambler.ru>: recipient address rejected: Inactive",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply("manual", _RCPT, "550 5.7.1 No such user!", _NEVER, _RECIPIENT),
    RealReply(
        "manual",
        _RCPT,
        "550 5.2.1 <EXAMPLE@PRODIGY.NET>... Addressee unknown, relay=[x.xx.xx.xx]",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 5.1.1 <email@example>: Recipient address rejected: User unknown",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "manual", _RCPT, "550 Invalid recipient <email@example.com> (#5.1.1)", _NEVER, _RECIPIENT
    ),
    RealReply("postfix", _RCPT, "501 5.1.3 Bad recipient address syntax", _NEVER, _RECIPIENT),
    RealReply(
        "postfix-checks",
        _RCPT,
        "504 5.5.2 <foo>: Recipient address rejected: need fully-qualified address",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "postfix-checks",
        _RCPT,
        "556 5.1.10 <rname@nullmx.porcupine.org>: Recipient address rejected: Domain nullmx.porcupine.org does not accept mail",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "postfix-checks",
        _RCPT,
        "450 4.1.2 <rname@nxdomain.porcupine.org>: Recipient address rejected: Domain not found",
        _LATER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _RCPT,
        "421 4.1.1 <email@example.com>: Recipient address rejected: unverified address: Address verification in progress",
        _LATER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _RCPT,
        "450 4.2.0 <example@comcast.net> - Recipient temporarily unavailable",
        _LATER,
        _RECIPIENT,
    ),
    # Full mailboxes.
    RealReply(
        "gmail",
        _RCPT,
        "452 4.2.2 The email account that you tried to reach is over quota. Please direct the recipient to this article.",
        _LATER,
        _RECIPIENT,
    ),
    RealReply(
        "gmail",
        _RCPT,
        "552 5.2.2 The email account that you tried to reach is over quota.",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "icloud", _RCPT, "552 5.2.2 <example@icloud.com>: user is overquota", _NEVER, _RECIPIENT
    ),
    RealReply(
        "manual", _RCPT, "452 4.1.1 <example@comcast.net> user over quota", _LATER, _RECIPIENT
    ),
    RealReply(
        "manual",
        _RCPT,
        "552 Requested mail action aborted: exceeded storage allocation Quota exceeded.",
        _NEVER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _RCPT,
        "554 5.2.2 <example@free.fr>: Recipient address rejected: Quota exceeded (mailbox for user is full)",
        _NEVER,
        _RECIPIENT,
    ),
    # Mailboxes that get more mail than they may: theirs, not the relay's limit.
    RealReply(
        "gmail",
        _RCPT,
        "450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message at a later time. If the user is able to receive mail at that time, your message will be delivered. For more information, review this article.",
        _LATER,
        _RECIPIENT,
    ),
    RealReply(
        "gmail",
        _RCPT,
        "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered. Please resend your message at a later time. If the user is able to receive mail at that time, your message will be delivered. For more information, review this article.",
        _LATER,
        _RECIPIENT,
    ),
    RealReply("manual", _RCPT, "450 User is receiving mail too quickly", _LATER, _RECIPIENT),
    RealReply(
        "manual",
        _RCPT,
        "450 4.2.1 The recipient has exceeded message rate limit. Try again later.",
        _LATER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _RCPT,
        "452 4.1.1 <example@comcast.net> too many recent messages; Try again later",
        _LATER,
        _RECIPIENT,
    ),
    RealReply(
        "icloud",
        _RCPT,
        "421 4.7.1 Messages to example@icloud.com deferred due to excessive volume. Try again later - https://support.apple.com/en-us/HT204137",
        _LATER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _DOT,
        "554 5.2.122 The recipient has exceeded their limit for the number of messages they can receive per hour. For more information go to http://go.microsoft.com/fwlink/?LinkId=526653. (#) [outlook.com]",
        _LATER,
        _RECIPIENT,
    ),
    RealReply(
        "manual",
        _DOT,
        "554 5.2.121 The sender has exceeded the limit for the number of messages they can send to this recipient per hour. For more information go to http://go.microsoft.com/fwlink/?LinkId=526653. [#.prod.outlook.com #]",
        _LATER,
        _RECIPIENT,
    ),
    RealReply(
        "exchange",
        _DOT,
        "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
        _LATER,
        _RECIPIENT,
    ),
    # Greylisting, with and without the time to wait.
    RealReply(
        "manual",
        _RCPT,
        "450 4.2.0 <email@example.com>: Recipient address rejected: example.com greylisted for 60 seconds by ZEROSPAM",
        _LATER,
        _RECIPIENT,
        60,
    ),
    RealReply(
        "manual",
        _RCPT,
        "451 4.7.1 <email@example.com>: Recipient address rejected: Greylisted for 5 minutes",
        _LATER,
        _RECIPIENT,
        300,
    ),
    RealReply("manual", _RCPT, "451 4.7.1 Try again later", _LATER, _RECIPIENT),
    # Too many recipients for one transaction.
    RealReply("postfix", _RCPT, "452 4.5.3 Error: too many recipients", _LATER, _RECIPIENT),
    RealReply(
        "gmail",
        _RCPT,
        "452 4.5.3 Domain policy size per transaction exceeded, please try this recipient in a separate transaction.",
        _LATER,
        _RECIPIENT,
    ),
    # The message: its size, content, sender, authenticity.
    RealReply(
        "gmail",
        _DOT,
        "552 5.2.3 Your message exceeded Google's message size limits. Please review our size guidelines.",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "postfix",
        _MAIL,
        "552 5.3.4 Message size exceeds file system imposed limit",
        _NEVER,
        _MESSAGE,
    ),
    RealReply("postfix", _MAIL, "501 5.1.7 Bad sender address syntax", _NEVER, _MESSAGE),
    RealReply(
        "postfix",
        _MAIL,
        "553 5.6.7 Must declare SMTPUTF8 to send unicode address",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "manual",
        _DOT,
        "552 5.7.0 Our system detected an illegal attachment on your message. Please visit http://mail.google.com/support/bin/answer.py?answer=6590 to review our attachment guidelines.",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "gmail",
        _DOT,
        "550 5.7.1 Our system has detected that this message is likely unsolicited mail. To reduce the amount of spam sent to Gmail, this message has been blocked. For more information, review this article.",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "manual",
        _DOT,
        "550 5.7.1 Unauthenticated email from example.com is not accepted due to domain's DMARC policy. Please contact the administrator of example.com domain if this was a legitimate mail.",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "gmail", _DOT, "554 5.6.0 Mail message is malformed. Not accepted.", _NEVER, _MESSAGE
    ),
    RealReply(
        "yahoo",
        _DOT,
        "554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "yahoo",
        _DOT,
        "554 Message not allowed - Headers are not RFC compliant[291]",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "icloud",
        _DOT,
        "550 5.7.1 [CS01] Message rejected due to local policy. Please visit https://support.apple.com/en-us/HT204137",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "icloud",
        _DOT,
        "550 5.7.1 Your message was rejected due to example.com DMARC policy.",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "icloud",
        _DOT,
        "550 5.7.1 Your email was rejected due to having a domain present in the Spamhaus DBL -- see https://www.spamhaus.org/dbl/",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "manual",
        _MAIL,
        "550 5.7.1 Service unavailable, MailFrom domain is listed in Spamhaus. To request removal from this list see https://www.spamhaus.org/query/lookup/ (S8002) [#.eop-nam02.prod.protection.outlook.com]",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "manual",
        _MAIL,
        "550 SPF-check failed: 550 example.com doesn't allow sending mails from xx.xx.xx.xx",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "manual",
        _DOT,
        "550 5.7.1 Rejected by spam filter (in reply to end of DATA command)",
        _NEVER,
        _MESSAGE,
    ),
    RealReply("manual", _DOT, "550 virus detected", _NEVER, _MESSAGE),
    RealReply(
        "manual",
        _DOT,
        "550 Mail content denied. http://service.exmail.qq.com/cgi-bin/help?subtype=1&&id=20022&&no=1000726",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "manual",
        _DOT,
        "554 Email rejected due to security policies - https://community.mimecast.com/docs/DOC-1369#554 [#]",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "manual",
        _RCPT,
        "450 4.1.8 Sender address rejected: Domain not found (in reply to RCPT TO command))",
        _LATER,
        _MESSAGE,
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 5.1.8 <sender@example.com>: Sender address rejected: Domain not found (in reply to RCPT TO command)",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 5.5.2 <email@example.com>: Sender address rejected: need fully-qualified address (in reply to RCPT TO command)",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "postfix-checks",
        _RCPT,
        "550 5.7.27 <sname@nullmx.porcupine.org>: Sender address rejected: Domain nullmx.porcupine.org does not accept mail",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "exim-verify",
        _RCPT,
        "550 Verification failed for <backoffice@example.org> Unrouteable address Sender verify failed",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "exchange-send-as",
        _DOT,
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender [MW2PR1901MB2155.namprd19.prod.outlook.com]",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "exchange-2013",
        _MAIL,
        "550 5.7.1 Client does not have permissions to send as this sender",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "ses-sandbox",
        _DOT,
        "554 Message rejected: Email address is not verified. The following identities failed the check in region US-EAST-1: shop@example.com",
        _NEVER,
        _MESSAGE,
    ),
    RealReply(
        "sendgrid-identity",
        _DOT,
        "550 The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved.",
        _NEVER,
        _MESSAGE,
    ),
    # Our login, and what our account may send.
    RealReply(
        "gmail",
        _AUTH,
        "535 5.7.1 Username and Password not accepted. Learn more here.",
        _LATER,
        _LOGIN,
    ),
    RealReply(
        "gmail",
        _AUTH,
        "535 5.7.1 Application-specific password required. Learn more here.",
        _LATER,
        _LOGIN,
    ),
    RealReply(
        "gmail", _MAIL, "530 5.5.1 Authentication Required. Learn more here.", _LATER, _LOGIN
    ),
    RealReply("gmail", _RCPT, "550 5.7.0 Mail relay denied.", _LATER, _LOGIN),
    RealReply(
        "gmail",
        _MAIL,
        "550 5.7.0 Mail Sending denied. This error occurs if the sender account is disabled or not registered within your G Suite domain.",
        _LATER,
        _LOGIN,
    ),
    RealReply("gmail", _MAIL, "550 5.7.1 Invalid credentials for relay.", _LATER, _LOGIN),
    RealReply(
        "gmail", _DOT, "550 5.4.5 Daily sending quota exceeded. Learn more here.", _LATER, _LOGIN
    ),
    RealReply(
        "gmail",
        _MAIL,
        "550 5.4.5 Daily SMTP relay limit exceeded for user. For more information on SMTP relay sending limits please contact your administrator or review this article.",
        _LATER,
        _LOGIN,
    ),
    RealReply(
        "gmail",
        _MAIL,
        "450 4.2.1 Peak SMTP relay limit exceeded for customer. This is a temporary error. For more information on SMTP relay limits, please contact your administrator or review this article.",
        _LATER,
        _LOGIN,
    ),
    RealReply("gmail", _DOT, "550 5.7.1 Email quota exceeded.", _LATER, _LOGIN),
    RealReply(
        "exchange-530",
        _MAIL,
        "530 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM [AM6PR0732BE0065.eurprd07.prod.outlook.com]",
        _LATER,
        _LOGIN,
    ),
    RealReply(
        "exchange-535",
        _AUTH,
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
        _LATER,
        _LOGIN,
    ),
    RealReply(
        "ses-quotas", _DOT, "454 Throttling failure: Daily message quota exceeded", _LATER, _LOGIN
    ),
    RealReply(
        "sendgrid", _AUTH, "451 Authentication failed: Maximum credits exceeded", _LATER, _LOGIN
    ),
    RealReply("sendgrid-login", _MAIL, "550 Unauthenticated senders not allowed", _LATER, _LOGIN),
    RealReply(
        "postfix",
        _AUTH,
        "535 5.7.8 Error: authentication failed: authentication failure",
        _LATER,
        _LOGIN,
    ),
    RealReply(
        "postfix-checks", _RCPT, "554 5.7.1 <foo@ibm.com>: Relay access denied", _LATER, _LOGIN
    ),
    RealReply("exim-relay", _RCPT, "550 relay not permitted!", _LATER, _LOGIN),
    RealReply("mailgun", _RCPT, "550 5.7.1 Relaying denied", _LATER, _LOGIN),
    RealReply(
        "manual",
        _RCPT,
        "553 you are trying to use me [xx.messagelabs.com] as a relay, but I have not been configured to let you [x.xx.xx.xx, example.com] do this.",
        _LATER,
        _LOGIN,
    ),
    RealReply(
        "outmail",
        _RCPT,
        "554 5.7.1 <email@example.com>: Recipient address rejected: You have exceeded your Outmail quota.",
        _LATER,
        _LOGIN,
    ),
    # The relay: its load, its opinion of our address, its configuration.
    RealReply("gmail", _RCPT, "421 4.4.5 Server busy, try again later.", _LATER, _RELAY),
    RealReply(
        "gmail",
        _DOT,
        "421 4.7.0 Our system has detected an unusual rate of unsolicited mail originating from your IP address. To protect our users from spam, mail sent from your IP address has been temporarily blocked. Review our Bulk Senders Guidelines.",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "gmail",
        _DOT,
        "550 5.7.1 Our system has detected an unusual rate of unsolicited mail originating from your IP address. To protect our users from spam, mail sent from your IP address has been blocked. Review our Bulk Senders Guidelines.",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "gmail",
        _RCPT,
        "550 5.7.1 The IP you're using to send mail is not authorized to send email directly to our servers. Please use the SMTP relay at your service provider instead. For more information, review this article.",
        _LATER,
        _RELAY,
    ),
    RealReply("gmail", _DOT, "451 4.3.0 Mail server temporarily rejected message.", _LATER, _RELAY),
    RealReply(
        "gmail",
        _AUTH,
        "454 4.7.0 Cannot authenticate due to temporary system problem. Try again later.",
        _LATER,
        _RELAY,
    ),
    RealReply("gmail", _MAIL, "503 5.5.1 EHLO/HELO first.", _LATER, _RELAY),
    RealReply("gmail", _MAIL, "530 5.7.0 Must issue a STARTTLS command first.", _LATER, _RELAY),
    RealReply(
        "manual",
        _RCPT,
        "451 4.7.500 Server busy. Please try again later from [x.xx.xx.x]. (AS77712344) [#.prod.protection.outlook.com]",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "manual",
        _MAIL,
        "451 4.7.650 The mail server [x.xx.xx.xx] has been temporarily rate limited due to IP reputation. For e-mail delivery information, see https://postmaster.live.com (S843)[#.prod.protection.outlook.com]",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "manual",
        _MAIL,
        "550 5.7.1 Unfortunately, messages from [x.xx.xx.xx] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3150). You can also refer your provider to http://mail.live.com/mail/troubleshooting.aspx#errors. [#.eop-nam02.prod.protection.outlook.com]",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 5.7.606 Access denied, banned sending IP [x.xx.xx.xx]. To request removal from this list please visit https://sender.office.com/ and follow the directions.",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 5.7.1 Service unavailable, Client host [x.xx.xx.xx] blocked using Spamhaus. To request removal from this list see https://www.spamhaus.org/query/ip/0.0.0.0 (AS16012611)",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "manual",
        _DOT,
        "451 4.4.0 Message failed to be replicated: No healthy secondary server available to accept replica at this time. [outlook.com]",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "manual",
        _RCPT,
        "452 4.3.1 Insufficient system resources (TSTE) [outlook.com]",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "manual",
        _RCPT,
        "450 4.7.3 Organization queue quota exceeded. [outlook.com]",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "yahoo",
        _MAIL,
        "421 4.7.0 [TSS04] Messages from 0.0.0.0 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "yahoo",
        _MAIL,
        "553 5.7.1 [BL21] Connections will not be accepted from x.xx.xx.xx, because the ip is in Spamhaus's list; see http://postmaster.yahoo.com/550-bl23.html",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "yahoo",
        _DOT,
        "451 example.yahoo.com Resources temporarily unavailable. Please try again later [#4.16.1].",
        _LATER,
        _RELAY,
    ),
    RealReply("icloud", _RCPT, "421 4.7.0 me.com Error: too many errors", _LATER, _RELAY),
    RealReply("icloud", _RCPT, "451 4.7.1 Service unavailable - try again later", _LATER, _RELAY),
    RealReply(
        "manual",
        _GREETING,
        "554 xx.comcast.net comcast x.xx.xx.xx Comcast block for spam. Please see http://postmaster.comcast.net/smtp-error-codes.php#BL000000",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 5.7.1 Connections not accepted from servers without a valid sender domain. ## Fix reverse DNS for x.xx.xx.xx",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "manual",
        _RCPT,
        "550 Sender frequency limited. http://service.exmail.qq.com/cgi-bin/help?subtype=1&&id=20022&&no=1000723",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "manual",
        _MAIL,
        "421 Max message per connection reached, closing transmission channel",
        _LATER,
        _RELAY,
    ),
    RealReply("ses", _GREETING, "421 Too many concurrent SMTP connections", _LATER, _RELAY),
    RealReply("ses", _DOT, "451 Temporary service failure", _LATER, _RELAY),
    RealReply("ses", _DOT, "451 Timeout waiting for data from client", _LATER, _RELAY),
    RealReply(
        "ses-quotas", _DOT, "454 Throttling failure: Maximum sending rate exceeded", _LATER, _RELAY
    ),
    RealReply(
        "sendgrid",
        _MAIL,
        "450 too frequent connects from 198.37.147.135, please try again later.",
        _LATER,
        _RELAY,
    ),
    RealReply("sendgrid", _RCPT, "451 Temporary local problem - please try later", _LATER, _RELAY),
    RealReply(
        "sendgrid", _RCPT, "452 Too many recipients received this hour (throttled)", _LATER, _RELAY
    ),
    RealReply("mailtrap", _MAIL, "550 too many emails per second", _LATER, _RELAY),
    RealReply("postfix", _MAIL, "450 4.7.1 Error: too much mail from 192.0.2.1", _LATER, _RELAY),
    RealReply(
        "postfix", _RCPT, "450 4.7.1 Error: too many recipients from 192.0.2.1", _LATER, _RELAY
    ),
    RealReply("postfix", _RCPT, "451 4.3.0 Temporary lookup error", _LATER, _RELAY),
    RealReply(
        "postfix-checks",
        _RCPT,
        "451 4.3.5 <reject@dunno.domain>: Recipient address rejected: Server configuration error",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "postfix",
        _AUTH,
        "454 4.7.0 Temporary authentication failure: Connection lost to authentication server",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "postfix",
        _GREETING,
        "421 4.7.0 relay.example.com Error: too many connections from 192.0.2.1",
        _LATER,
        _RELAY,
    ),
    RealReply(
        "postfix-checks",
        _RCPT,
        "450 4.7.1 Client host rejected: cannot find your hostname, [1.1.1.1]",
        _LATER,
        _RELAY,
    ),
    RealReply("exim", _GREETING, "421 Too much load; please try again later.", _LATER, _RELAY),
    RealReply(
        "exim",
        _GREETING,
        "421 Too many concurrent SMTP connections from this IP address; please try again later.",
        _LATER,
        _RELAY,
    ),
    # Ourselves: commands or a name that this relay does not take.
    RealReply("postfix", _MAIL, "555 5.5.4 Unsupported option: SIZE=12", _LATER, _OURS),
    RealReply(
        "postfix-checks",
        _RCPT,
        "504 5.5.2 <foo>: Helo command rejected: need fully-qualified hostname",
        _LATER,
        _OURS,
    ),
    RealReply(
        "postfix-checks",
        _RCPT,
        "554 5.7.1 <bad.domain>: Helo command rejected: match bad.domain",
        _LATER,
        _OURS,
    ),
]
