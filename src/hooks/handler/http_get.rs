//! `httpGet`: asks the pod, or a host, by the rules of a pod's own `lifecycle.httpGet`.

use reqwest::Url;
use tokio::time::{Instant, timeout_at};

use super::target::Target;
use super::values::{Node, Values};
use super::{Delivery, Evidence, Failure, Handler, http, trouble};
use crate::hooks::Boxed;
use crate::hooks::policy;

/// Succeeds with a status from 200 to 399.
pub(super) struct HttpGet {
    pub(super) node: Node,
    pub(super) spec: policy::HttpGet,
    pub(super) client: reqwest::Client,
}

impl HttpGet {
    fn url(&self, target: &Target, path: &str) -> Option<Url> {
        let scheme = if self.spec.secure { "https" } else { "http" };
        let mut url = Url::parse(&format!("{scheme}://{}", target.authority())).ok()?;
        // Nothing that was filled in may become credentials or another host.
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return None;
        }
        let path = path.split('#').next().unwrap_or_default();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(path);
        url.set_query(query);
        Some(url)
    }
}

impl Handler for HttpGet {
    fn attempt(&self, delivery: Delivery) -> Boxed<'_, Result<Evidence, Failure>> {
        Box::pin(async move {
            let limit = delivery.deadline.saturating_duration_since(Instant::now());
            let values = Values { delivery: &delivery, node: &self.node };
            let target = Target::of(values, self.spec.host.as_ref(), &self.spec.port)?;
            let peer = target.authority();
            let url = self
                .url(&target, &values.fill(&self.spec.path))
                .ok_or_else(|| Failure::failed("the host of the policy is not one that a URL can have"))?;
            let request = self.client.get(url).headers(http::headers(values, &self.spec.headers)?);
            match timeout_at(delivery.deadline, request.send()).await {
                Ok(Ok(answer)) => http::verdict(answer.into(), &peer, delivery.deadline).await,
                Ok(Err(error)) => Err(http::failure(&error, &peer)),
                Err(_) => Err(trouble::no_answer(&peer, limit)),
            }
        })
    }
}

#[cfg(test)]
mod tests;
