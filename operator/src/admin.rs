//! The admin port, for the kubelet and Prometheus: `/livez`, `/readyz`, `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics::Metrics;

/// Timeout for a client to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of concurrent connections: more than the kubelet and Prometheus need.
const MAX_CONNECTIONS: usize = 64;
/// The content type by which Prometheus recognizes OpenMetrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves requests until the listener fails.
///
/// # Errors
/// The error of the listener.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = Arc::clone(&permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (stream, _) = match listener.accept().await {
            Ok(connection) => connection,
            // The client closed the connection before it was accepted.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(request.method(), request.uri().path(), &metrics);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut server = http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection to the admin port failed");
            }
            drop(permit);
        });
    }
}

fn answer(method: &Method, path: &str, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, kind, text) = match path {
        "/livez" | "/readyz" | "/metrics" if !matches!(*method, Method::GET | Method::HEAD) => (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "only GET and HEAD are supported\n".to_owned(),
        ),
        "/livez" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" if metrics.is_ready() => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            "the watch caches are not complete yet, or no replica leads\n".to_owned(),
        ),
        "/metrics" => (StatusCode::OK, METRICS_TYPE, metrics.text()),
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "not found: use /livez, /readyz or /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    fn status(method: &Method, path: &str, metrics: &Metrics) -> u16 {
        answer(method, path, metrics).status().as_u16()
    }

    #[test]
    fn leader_is_ready_when_it_is_synced() {
        let metrics = Metrics::new();
        assert_eq!(status(&Method::GET, "/readyz", &metrics), 503);
        metrics.set_standby();
        assert_eq!(status(&Method::GET, "/readyz", &metrics), 200);
        metrics.set_leader(true);
        assert_eq!(
            (
                status(&Method::GET, "/readyz", &metrics),
                status(&Method::GET, "/livez", &metrics)
            ),
            (503, 200)
        );
        metrics.set_synced();
        assert_eq!(status(&Method::GET, "/readyz", &metrics), 200);
    }

    #[test]
    fn unknown_paths_and_methods_are_refused() {
        let metrics = Metrics::new();
        assert_eq!(status(&Method::GET, "/", &metrics), 404);
        assert_eq!(status(&Method::POST, "/metrics", &metrics), 405);
    }

    #[tokio::test]
    async fn metrics_are_served_over_http() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Arc::new(Metrics::new())));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        server.abort();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains(METRICS_TYPE),
            "{text}"
        );
        assert!(
            text.contains("wasmedge_operator_leader 0\n") && text.ends_with("# EOF\n"),
            "{text}"
        );
    }
}
