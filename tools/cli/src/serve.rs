//! A folder over HTTP as browsers want it: ranges for models, compression for text, and the headers without which a page gets no threads
//! (cross-origin isolation).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::error::{Error, Result};

/// What to serve.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder
    pub folder: PathBuf,
    /// The port; 0 takes a free one
    #[arg(long, short, default_value_t = 8080)]
    pub port: u16,
    /// Let other machines in too; browsers give them no WebGPU and no threads without HTTPS
    #[arg(long)]
    pub public: bool,
}

/// Serves until the process ends; `ready` is told where.
pub fn serve(arguments: &Arguments, ready: &mut dyn FnMut(SocketAddr)) -> Result<()> {
    if !arguments.folder.is_dir() {
        return Err(Error::new(format!("'{}' is no folder", arguments.folder.display())));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(|e| Error::new(format!("No server could be started: {e}")))?;
    runtime.block_on(async {
        let host = if arguments.public { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let address = SocketAddr::from((host, arguments.port));
        let no_port =
            |e: std::io::Error| Error::new(format!("Port {} cannot be had: {e}. Choose another with --port.", arguments.port));
        let listener = TcpListener::bind(address).await.map_err(no_port)?;
        ready(listener.local_addr().map_err(no_port)?);
        let header = |name: &'static str, value: &'static str| {
            SetResponseHeaderLayer::overriding(HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        // Weights do not get smaller, and a compressed answer has no ranges.
        let compressed = DefaultPredicate::new().and(NotForContentType::const_new("application/octet-stream"));
        let service = ServiceBuilder::new()
            .layer(header("cross-origin-opener-policy", "same-origin"))
            .layer(header("cross-origin-embedder-policy", "require-corp"))
            .layer(header("cross-origin-resource-policy", "same-origin"))
            .layer(header("x-content-type-options", "nosniff"))
            .layer(SetResponseHeaderLayer::overriding(CACHE_CONTROL, HeaderValue::from_static("no-cache")))
            .layer(CompressionLayer::new().compress_when(compressed))
            .service(ServeDir::new(&arguments.folder));
        loop {
            // A connection that cannot be taken is its caller's trouble.
            let Ok((stream, _)) = listener.accept().await else { continue };
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                // Browsers hang up whenever they like.
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}
