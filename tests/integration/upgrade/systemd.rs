//! What systemd hears of an upgrade, and a socket that is systemd's.
