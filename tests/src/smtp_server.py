"""An SMTP server for tests: stores every mail that it takes in a Maildir, with what it understood of it as JSON beside it.

Usage: smtp_server.py FOLDER PORT none|starttls|tls [USER PASSWORD]; prints its port when it listens.
FOLDER holds cert.pem and key.pem, and `behaviour`, one word that is read before each answer.
"""
import asyncio
import email
import email.policy
import json
import logging
import os
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult

# It complains about settings that are meant, and about clients that are right to hang up.
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
folder, port, security = sys.argv[1], int(sys.argv[2]), sys.argv[3]
login = sys.argv[4:6]
REPLIES = {"busy": "451 4.3.2 try again later", "refuse": "554 5.7.1 refused by a rule"}


def behaviour():
    with open(os.path.join(folder, "behaviour")) as file:
        return file.read().strip()


async def rest(word):
    while behaviour() == word:
        await asyncio.sleep(0.1)


def understood(envelope, session):
    mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
    part = lambda kind: (lambda found: found.get_content() if found else "")(mail.get_body((kind,)))
    return {
        "from": envelope.mail_from,
        "to": envelope.rcpt_tos,
        "encrypted": session.ssl is not None or security == "tls",
        "user": login[0] if session.authenticated else "",
        "headers": [[name, str(value)] for name, value in mail.items()],
        "parts": [piece.get_content_type() for piece in mail.walk()],
        "text": part("plain"),
        "html": part("html"),
    }


class Handler:
    def __init__(self):
        self.count = len(os.listdir(os.path.join(folder, "new")))

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        await rest("hang")
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        reply = REPLIES.get(behaviour())
        if reply is None:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return reply or "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("unknown"):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        await rest("hang-after-data")
        self.count += 1
        name = f"{self.count:06}"
        for kind, content in (("json", json.dumps(understood(envelope, session)).encode()), ("eml", envelope.content)):
            with open(os.path.join(folder, "tmp", name), "wb") as file:
                file.write(content)
            os.rename(os.path.join(folder, "tmp", name), os.path.join(folder, "new" if kind == "eml" else "understood", f"{name}.{kind}"))
        return "250 OK: stored"


def authenticator(server, session, envelope, mechanism, auth_data):
    given = [auth_data.login.decode(), auth_data.password.decode()]
    return AuthResult(success=given == login, handled=False)


async def main():
    context = None
    if security != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem"))
    options = {"hostname": "smtp.test", "enable_SMTPUTF8": True, "timeout": 3600}
    if security == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    if login:
        options |= {"authenticator": authenticator, "auth_required": True, "auth_require_tls": security == "starttls"}
    handler = Handler()
    make = lambda: SMTP(handler, **options)
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", port, ssl=context if security == "tls" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(1e9)


asyncio.run(main())
