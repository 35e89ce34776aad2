//! The web app, out of the binary: one page for every address, files with hashed names for a long time.

use std::io;

use axum::body::Bytes;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A file of the web app.
struct File {
    /// Its path below the root.
    name: &'static str,
    bytes: &'static [u8],
    /// The same, for browsers that take gzip.
    packed: Option<&'static [u8]>,
}

const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// What pages of the studio may do: load its own files and talk to it, nothing else.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                      font-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'";

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tunesmith studio</title></head>\
<body><h1>The web app is not in this build</h1><p>The studio's server runs; its pages were not built. With Node installed:</p>\
<pre>cd web\nnpm ci\nnpm run build\ncd ..\ncargo build --release</pre><p>The interface for programs is at \
<a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>.</p></body></html>";

/// Answers with a file, or with the page for an address inside the app.
pub(crate) async fn page(uri: Uri, headers: HeaderMap) -> Response {
    let name = uri.path().trim_start_matches('/');
    let found = FILES.iter().find(|file| file.name == name);
    // An address of the app has no ending; a file that is not there is an error, not a page.
    let is_address = !name.rsplit('/').next().unwrap_or_default().contains('.');
    match found.or_else(|| FILES.iter().find(|file| is_address && file.name == "index.html")) {
        Some(file) => answer(file, &headers),
        None if is_address => ([(CONTENT_TYPE, "text/html; charset=utf-8")], NOT_BUILT).into_response(),
        None => (StatusCode::NOT_FOUND, "there is no such file").into_response(),
    }
}

fn answer(file: &File, headers: &HeaderMap) -> Response {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let digest = Sha256::digest(file.bytes);
    let tag: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    // Names below assets change with their content.
    let keep =
        if file.name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let common =
        [(CACHE_CONTROL, keep.to_owned()), (ETAG, tag.clone()), (VARY, "Accept-Encoding".to_owned())];
    if text(IF_NONE_MATCH).is_some_and(|known| known.contains(&tag)) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let takes_gzip = text(ACCEPT_ENCODING).is_some_and(|encodings| encodings.contains("gzip"));
    let kind = [(CONTENT_TYPE, content_type(file.name))];
    match file.packed.filter(|_| takes_gzip) {
        Some(packed) => (common, kind, [(CONTENT_ENCODING, "gzip")], packed).into_response(),
        None => (common, kind, file.bytes).into_response(),
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" | "webmanifest" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Adds what every answer carries.
pub(crate) async fn security_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The content of a file, piece by piece.
pub(crate) fn file_stream(file: impl AsyncRead + Unpin) -> impl Stream<Item = io::Result<Bytes>> {
    const CHUNK_BYTES: usize = 1 << 18;
    stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let n = file.read(&mut chunk).await?;
        chunk.truncate(n);
        Ok((n > 0).then(|| (Bytes::from(chunk), file)))
    })
}
