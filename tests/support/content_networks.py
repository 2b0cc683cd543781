"""Hosts that give away other people's scripts and fonts; nothing of ours is loaded from there.

Written in two parts, so that this file is not found among those that name them.
"""

CONTENT_NETWORKS = tuple(
    "".join(parts)
    for parts in (
        ("unp", "kg.com"),
        ("jsde", "livr.net"),
        ("cdn", "js."),
        ("esm", ".sh"),
        ("esm", ".run"),
        ("sky", "pack.dev"),
        ("js", "pm.io"),
        ("google", "apis.com"),
        ("gst", "atic.com"),
        ("bootstrap", "cdn.com"),
        ("code.jq", "uery.com"),
        ("use.type", "kit.net"),
    )
)
