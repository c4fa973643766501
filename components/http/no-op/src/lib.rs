//! Answers every request with `ok`. It imports nothing but `wasi:http`, so any host of that interface runs it: what it costs
//! is what the host costs.

use espalier_http_endpoint::{
    About, Handler, Identity, IncomingRequest, ResponseOutparam, ResponseWriter, identity,
};

struct NoOp;

impl About for NoOp {
    fn describe() -> Identity {
        identity!()
    }
}

impl Handler for NoOp {
    fn handle(_: IncomingRequest, response: ResponseOutparam) {
        ResponseWriter::whole(response, 200, "text/plain", b"ok");
    }
}

espalier_http_endpoint::export!(NoOp);
