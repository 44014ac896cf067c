//! `$(NAME)` in commands, paths, headers and URLs, by Kubernetes' rules for a container's command: each argument by itself,
//! `$$(NAME)` stays `$(NAME)`, and a dollar before anything else means itself.

use std::fmt;

macro_rules! names {
    ($($variant:ident = $text:literal: $what:literal),* $(,)?) => {
        /// What can stand between `$(` and `)`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Name {
            $(#[doc = $what] $variant),*
        }

        impl Name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As it is written.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}
names!(
    PodName = "POD_NAME": "The pod's name.",
    PodNamespace = "POD_NAMESPACE": "The pod's namespace.",
    PodUid = "POD_UID": "The API server's id of the pod.",
    PodIp = "POD_IP": "The pod's address; empty while it has none.",
    ContainerName = "CONTAINER_NAME": "The container's name; empty at a sandbox's points.",
    ContainerId = "CONTAINER_ID": "The runtime's id of the container; empty before it has one.",
    SandboxId = "SANDBOX_ID": "The runtime's id of the pod's sandbox; empty before there is one.",
    Image = "IMAGE": "The image of the container.",
    NodeName = "NODE_NAME": "The node's name.",
    EventId = "EVENT_ID": "The same for every delivery of an event to a hook.",
    Attempt = "ATTEMPT": "Counted from 1.",
    GraceSeconds = "GRACE_SECONDS": "At `PreStop`, what is left of the grace period in whole seconds; else empty.",
);

/// A text with places to be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(Name),
}

/// There is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`$({0})` is not known; there are {all}, and `$$({0})` to write it as it is", all = Name::ALL.iter().map(|n| n.text()).collect::<Vec<_>>().join(", "))]
pub struct UnknownName(pub String);

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// Fails for a name that does not exist.
    pub fn parse(text: &str) -> Result<Self, UnknownName> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                plain.push('$');
                rest = after;
            } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
                let found = Name::ALL.iter().find(|known| known.text() == name);
                let found = *found.ok_or_else(|| UnknownName(name.to_owned()))?;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Name(found));
                rest = after;
            } else {
                plain.push('$');
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// The names that it uses.
    #[must_use]
    pub fn names(&self) -> Vec<Name> {
        self.0.iter().filter_map(|piece| if let Piece::Name(name) = piece { Some(*name) } else { None }).collect()
    }

    /// Fills it in.
    #[must_use]
    pub fn expand(&self, value: impl Fn(Name) -> String) -> String {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Name(name) => value(*name),
            })
            .collect()
    }
}

/// With the names as they are written, for labels and messages.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Name(name) => write!(f, "$({})", name.text()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        Template::parse(text).unwrap().expand(|name| format!("<{}>", name.text()))
    }

    #[test]
    fn names_are_filled_in_and_doubled_dollars_are_not() {
        assert_eq!(filled("/drain/$(POD_NAME)?x=$(ATTEMPT)"), "/drain/<POD_NAME>?x=<ATTEMPT>");
        assert_eq!(filled("$$(POD_NAME) costs $5 $"), "$(POD_NAME) costs $5 $");
        assert_eq!(filled("$$$(POD_IP)"), "$<POD_IP>");
        assert_eq!(filled("$(POD_IP"), "$(POD_IP");
        assert_eq!(filled(""), "");
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_there_are() {
        let told = Template::parse("a $(POD) b").unwrap_err().to_string();
        assert!(told.starts_with("`$(POD)` is not known; there are POD_NAME, POD_NAMESPACE"), "{told}");
    }
}
