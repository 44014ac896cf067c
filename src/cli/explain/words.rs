//! What a hook does, in a few words.

use crate::hooks::policy::{Action, GrpcEndpoint, PortRef, Template, WebhookUrl};

/// Like `httpGet http://POD:8080/drain`. Without headers, environments, and what URLs carry of users and queries: there may be secrets in
/// them.
pub(super) fn words(action: &Action) -> String {
    let what = match action {
        Action::Exec(command) => spaced(command),
        Action::HttpGet(get) => {
            let scheme = if get.secure { "https" } else { "http" };
            format!("{scheme}://{}:{}{}", host(get.host.as_ref()), port(&get.port), plain(&get.path))
        }
        Action::TcpSocket(socket) => format!("{}:{}", host(socket.host.as_ref()), port(&socket.port)),
        Action::Sleep(time) => humantime::format_duration(*time).to_string(),
        Action::Webhook(webhook) => match &webhook.url {
            WebhookUrl::Http(url) => plain(url),
            WebhookUrl::Unix { socket, path } => format!("unix://{}:{}", socket.display(), plain(path)),
        },
        Action::Grpc(grpc) => match &grpc.endpoint {
            GrpcEndpoint::Tcp(address) => address.clone(),
            GrpcEndpoint::Unix(socket) => format!("unix://{}", socket.display()),
        },
        Action::Command(command) => match &command.user {
            Some(user) => format!("{} (as {user})", spaced(&command.command)),
            None => spaced(&command.command),
        },
    };
    format!("{} {what}", action.name())
}

fn spaced(command: &[Template]) -> String {
    command.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn host(host: Option<&Template>) -> String {
    host.map_or_else(|| "POD".to_owned(), ToString::to_string)
}

fn port(port: &PortRef) -> String {
    match port {
        PortRef::Number(number) => number.to_string(),
        PortRef::Name(name) => name.clone(),
    }
}

/// Without a query, and without a user.
fn plain(url: &Template) -> String {
    let text = url.to_string();
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::policy::{HttpGet, Tls, Webhook};

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    #[test]
    fn a_url_loses_what_may_be_secret() {
        let url = WebhookUrl::Http(template("https://me:pass@hooks.example/$(POD_NAME)?token=t"));
        let webhook = Action::Webhook(Webhook { url, headers: Vec::new(), tls: Tls::default() });
        assert_eq!(words(&webhook), "webhook https://hooks.example/$(POD_NAME)");
    }

    #[test]
    fn a_request_to_the_pod_says_so() {
        let get = HttpGet {
            path: template("/drain?key=k"),
            port: PortRef::Name("http".into()),
            host: None,
            secure: false,
            headers: Vec::new(),
            tls: Tls::default(),
        };
        assert_eq!(words(&Action::HttpGet(get)), "httpGet http://POD:http/drain");
    }
}
