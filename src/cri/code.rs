//! gRPC's status codes, as numbers on the wire and as bounded labels.

use http::{HeaderMap, HeaderValue};

/// A gRPC status code, or `other` for a number that gRPC does not define.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(u8);

const NAMES: [&str; Code::COUNT] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
    "other",
];

impl Code {
    /// How many different values there are.
    pub const COUNT: usize = 18;
    /// Success.
    pub const OK: Self = Self(0);
    /// The client went away or gave up.
    pub const CANCELED: Self = Self(1);
    /// No usable status was given.
    pub const UNKNOWN: Self = Self(2);
    /// The deadline passed before it was done.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// Not allowed.
    pub const PERMISSION_DENIED: Self = Self(7);
    /// Too much was asked.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// The call is refused for a reason that lies outside of it.
    pub const FAILED_PRECONDITION: Self = Self(9);
    /// An invariant is broken.
    pub const INTERNAL: Self = Self(13);
    /// The server cannot be reached; trying again may help.
    pub const UNAVAILABLE: Self = Self(14);
    const UNIMPLEMENTED: Self = Self(12);
    const DATA_LOSS: Self = Self(15);
    const OTHER: Self = Self(17);

    /// What `grpc-status` in these headers or trailers says; `Unknown` if it is absent, as gRPC's own clients have it.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        headers.get("grpc-status").map_or(Self::UNKNOWN, Self::from_value)
    }

    fn from_value(value: &HeaderValue) -> Self {
        match value.as_bytes() {
            [d @ b'0'..=b'9'] => Self(d - b'0'),
            [b'1', d @ b'0'..=b'6'] => Self(10 + d - b'0'),
            _ => Self::OTHER,
        }
    }

    /// What a gRPC client makes of a stream that ended with a reset and no status.
    ///
    /// Source: gRPC over HTTP2, "HTTP2 Transport Mapping", errors.
    #[must_use]
    pub fn from_reset(reason: h2::Reason) -> Self {
        match reason {
            h2::Reason::REFUSED_STREAM => Self::UNAVAILABLE,
            h2::Reason::CANCEL => Self::CANCELED,
            h2::Reason::ENHANCE_YOUR_CALM => Self::RESOURCE_EXHAUSTED,
            h2::Reason::INADEQUATE_SECURITY => Self::PERMISSION_DENIED,
            _ => Self::INTERNAL,
        }
    }

    /// Whether it tells of a server that has failed, and not of what was asked for (`NotFound` is an answer).
    ///
    /// Source: OpenTelemetry's semantic conventions for gRPC, "gRPC status", for spans of servers.
    #[must_use]
    pub fn is_servers_failure(self) -> bool {
        let failures = [
            Self::UNKNOWN,
            Self::DEADLINE_EXCEEDED,
            Self::UNIMPLEMENTED,
            Self::INTERNAL,
            Self::UNAVAILABLE,
            Self::DATA_LOSS,
        ];
        failures.contains(&self)
    }

    /// The name as gRPC's Go library prints it, which is what dashboards know.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[self.index()]
    }

    /// The number on the wire, as a header's value.
    #[must_use]
    pub fn to_header_value(self) -> HeaderValue {
        HeaderValue::from(u16::from(self.0))
    }

    /// The number on the wire; 17 for `other`.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// A number below [`Code::COUNT`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> &'static str {
        Code::from_value(&HeaderValue::from_static(value)).name()
    }

    #[test]
    fn the_seventeen_codes_have_names_and_the_rest_is_other() {
        assert_eq!(
            (read("0"), read("5"), read("14"), read("16")),
            ("OK", "NotFound", "Unavailable", "Unauthenticated")
        );
        for odd in ["17", "99", "-1", "", "ok", "014", "1.0"] {
            assert_eq!(read(odd), "other", "{odd:?}");
        }
        assert_eq!(Code::from_headers(&HeaderMap::new()), Code::UNKNOWN);
    }

    #[test]
    fn a_code_reads_back_what_it_writes() {
        for code in (0..17).map(Code) {
            assert_eq!(Code::from_value(&code.to_header_value()), code);
        }
    }
}
