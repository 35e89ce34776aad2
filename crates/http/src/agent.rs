//! The pool of connections that everything but the hub's client uses.

use std::time::Duration;

use tunesmith_formats::hub::system_roots;
use tunesmith_formats::resume::STALL_SECS;
use ureq::Agent;
use ureq::tls::TlsConfig;

/// How long a name may take to be found, and a connection to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const STALL: Duration = Duration::from_secs(STALL_SECS);

/// A connection pool with time-outs for each step of a transfer. Statuses are no errors; `max_redirects` of none hands
/// redirects out.
pub fn agent(max_redirects: u32) -> Agent {
    let config = Agent::config_builder()
        .user_agent(concat!("tunesmith/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(max_redirects)
        .max_redirects_will_error(max_redirects > 0)
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(STALL))
        .timeout_per_read(Some(STALL))
        .tls_config(TlsConfig::builder().root_certs(system_roots()).build());
    config.build().new_agent()
}
