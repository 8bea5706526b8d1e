//! Serves a router over HTTP/1.1.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Binds `address`, which may be a name.
///
/// # Errors
/// An address that can't be resolved or is taken, with the address in the text.
pub async fn bind(address: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("can't listen on {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(named)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Serves until `stop` turns true.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let stopped = async move {
        // An error is a sender that is gone, which is a stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(stopped)
        .await
    {
        tracing::error!(%error, "http listener ended");
    }
}
