//! Responses: whole files, parts of them, "nothing changed", and refusals.

use dsimg_download::Answer;
use hyper::ext::ReasonPhrase;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use hyper::{Response, StatusCode};

use crate::age::read_time;
use crate::body::Answered;
use crate::fetch::Found;
use crate::refusal::Refusal;
use crate::transfer::Head;

pub(crate) type Reply = Response<Answered>;

/// What is made here, at once.
pub(crate) fn page(bytes: Vec<u8>, content_type: &'static str) -> Reply {
    let mut reply = Response::new(Answered::bytes(bytes));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

pub(crate) fn refused(refusal: &Refusal) -> Reply {
    let mut reply = Response::new(Answered::bytes(refusal.body()));
    *reply.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY);
    if let Ok(reason) = ReasonPhrase::try_from(refusal.status_line().into_bytes()) {
        reply.extensions_mut().insert(reason);
    }
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

/// As much of the file as the request wants.
pub(crate) fn file(found: Found, request: &HeaderMap, only_head: bool) -> Reply {
    let head = found.head().clone();
    if is_unchanged(request, &head) {
        return with_head(Response::new(Answered::empty()), &head, StatusCode::NOT_MODIFIED);
    }
    let (start, end, status) = match wanted_part(request, &head) {
        Part::All => (0, head.length, StatusCode::OK),
        Part::Some(start, end) => (start, Some(end), StatusCode::PARTIAL_CONTENT),
        Part::None(length) => {
            let mut reply = Response::new(Answered::empty());
            *reply.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            set(&mut reply, CONTENT_RANGE, &format!("bytes */{length}"));
            return reply;
        }
    };
    let body = if only_head { Answered::empty() } else { Answered::file(found, start, end) };
    let mut reply = with_head(Response::new(body), &head, status);
    if let (StatusCode::PARTIAL_CONTENT, Some(end), Some(length)) = (status, end, head.length) {
        set(&mut reply, CONTENT_RANGE, &format!("bytes {start}-{}/{length}", end - 1));
    }
    if let Some(end) = end {
        set(&mut reply, CONTENT_LENGTH, &(end - start).to_string());
    }
    reply
}

/// The head of what is not here.
pub(crate) fn only_head(head: &Head) -> Reply {
    let mut reply = with_head(Response::new(Answered::empty()), head, StatusCode::OK);
    if let Some(length) = head.length {
        set(&mut reply, CONTENT_LENGTH, &length.to_string());
    }
    reply
}

/// An answer from outside as it comes.
pub(crate) fn passed_on(answer: Answer) -> Reply {
    let status = StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let (head, range) = (Head::of(&answer), answer.header("content-range").map(str::to_owned));
    let mut reply = with_head(Response::new(Answered::passing(answer)), &head, status);
    if let Some(range) = range {
        set(&mut reply, CONTENT_RANGE, &range);
    }
    if let Some(length) = head.length {
        set(&mut reply, CONTENT_LENGTH, &length.to_string());
    }
    reply
}

fn with_head(mut reply: Reply, head: &Head, status: StatusCode) -> Reply {
    *reply.status_mut() = status;
    reply.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    for (name, value) in [(ETAG, &head.etag), (LAST_MODIFIED, &head.last_modified), (CONTENT_TYPE, &head.content_type)]
    {
        if let Some(value) = value {
            set(&mut reply, name, value);
        }
    }
    reply
}

fn set(reply: &mut Reply, name: HeaderName, value: &str) {
    // What a server sent can be sent on.
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn is_unchanged(request: &HeaderMap, head: &Head) -> bool {
    if let Some(marks) = text(request, IF_NONE_MATCH) {
        let strong = |mark: &str| mark.trim().trim_start_matches("W/").to_owned();
        return head.etag.as_ref().is_some_and(|etag| marks.split(',').any(|mark| strong(mark) == strong(etag)));
    }
    let since = text(request, IF_MODIFIED_SINCE).and_then(read_time);
    let modified = head.last_modified.as_deref().and_then(read_time);
    matches!((since, modified), (Some(since), Some(modified)) if modified <= since)
}

#[derive(Debug, PartialEq)]
enum Part {
    All,
    Some(u64, u64),
    /// There is no such part of so many bytes.
    None(u64),
}

/// One range; for several, and for what is about another file, all of it is sent, as the standard allows.
fn wanted_part(request: &HeaderMap, head: &Head) -> Part {
    let (Some(range), Some(length)) = (text(request, RANGE), head.length) else { return Part::All };
    if let Some(mark) = text(request, IF_RANGE)
        && ![&head.etag, &head.last_modified].into_iter().any(|known| known.as_deref() == Some(mark))
    {
        return Part::All;
    }
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Part::All;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (number(first), number(last)) {
        (Some(start), _) if start >= length => Part::None(length),
        (Some(start), Some(last)) if last >= start => Part::Some(start, (last + 1).min(length)),
        (Some(start), None) if last.is_empty() => Part::Some(start, length),
        (None, Some(count)) if first.is_empty() && count > 0 => Part::Some(length.saturating_sub(count), length),
        _ => Part::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &str, if_range: Option<&str>) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(range).unwrap());
        if let Some(mark) = if_range {
            headers.insert(IF_RANGE, HeaderValue::from_str(mark).unwrap());
        }
        let head = Head { length: Some(10), etag: Some("\"a\"".to_owned()), ..Head::default() };
        wanted_part(&headers, &head)
    }

    #[test]
    fn one_range_is_answered() {
        assert_eq!(part("bytes=0-0", None), Part::Some(0, 1));
        assert_eq!(part("bytes=4-", None), Part::Some(4, 10));
        assert_eq!(part("bytes=4-100", None), Part::Some(4, 10));
        assert_eq!(part("bytes=-3", None), Part::Some(7, 10));
        assert_eq!(part("bytes=-30", None), Part::Some(0, 10));
        assert_eq!(part("bytes=10-", None), Part::None(10));
        for all in ["bytes=5-4", "bytes=-", "bytes=-0", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "bytes=1-x"] {
            assert_eq!(part(all, None), Part::All, "{all}");
        }
    }

    #[test]
    fn a_part_of_another_file_is_not_given() {
        assert_eq!(part("bytes=4-", Some("\"a\"")), Part::Some(4, 10));
        assert_eq!(part("bytes=4-", Some("\"b\"")), Part::All);
    }

    #[test]
    fn unchanged_is_told_by_mark_or_time() {
        let head = Head {
            etag: Some("W/\"a\"".to_owned()),
            last_modified: Some("Sat, 08 Nov 2025 09:55:41 GMT".to_owned()),
            ..Head::default()
        };
        let asked = |name, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            is_unchanged(&headers, &head)
        };
        assert!(asked(IF_NONE_MATCH, "\"b\", \"a\"") && !asked(IF_NONE_MATCH, "\"b\""));
        assert!(asked(IF_MODIFIED_SINCE, "Sat, 08 Nov 2025 09:55:41 GMT"));
        assert!(!asked(IF_MODIFIED_SINCE, "Sat, 08 Nov 2025 09:55:40 GMT"));
    }
}
