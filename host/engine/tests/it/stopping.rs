//! How a generation ends.

use espalier_engine::{Event, FinishReason, GenerateRequest};

use crate::fixture::{collect, config, engine, prompt, sampled, sampling};

#[test]
fn max_tokens_and_the_end_of_the_context_are_reasons_of_length() {
    let engine = engine(&config());
    let short = collect(engine.submit(sampled(prompt(10, 0), 3, 11)).unwrap());
    if short.reason == FinishReason::Length {
        assert_eq!(short.usage.completion_tokens, 3);
    }
    let long = collect(engine.submit(sampled(prompt(250, 0), 1000, 11)).unwrap());
    assert!(long.usage.prompt_tokens + long.usage.completion_tokens <= 256);
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let engine = engine(&config());
    let free = collect(engine.submit(sampled(prompt(10, 0), 60, 21)).unwrap());
    let characters: Vec<char> = free.text.chars().collect();
    assert!(characters.len() > 20, "{free:?}");
    let stop: String = characters[10..13].iter().collect();
    let request = GenerateRequest::new(prompt(10, 0), Some(60), sampling(21), vec![stop.clone()]).unwrap();
    let stopped = collect(engine.submit(request).unwrap());
    assert_eq!(stopped.text, free.text[..free.text.find(&stop).unwrap()]);
    assert_eq!(stopped.reason, FinishReason::Stop);
}

#[test]
fn every_token_is_reported_where_that_is_asked_for() {
    let engine = engine(&config());
    let request = sampled(prompt(10, 0), 60, 21).with_every_token();
    let mut stream = engine.submit(request).unwrap();
    let (mut ids, mut text) = (Vec::new(), String::new());
    loop {
        match stream.blocking_recv().unwrap() {
            Event::Text { text: piece, token_ids, .. } => {
                assert!(!token_ids.is_empty() || !piece.is_empty());
                ids.extend(token_ids);
                text.push_str(&piece);
            }
            Event::Finished { usage, .. } => {
                assert_eq!(ids.len(), usage.completion_tokens);
                break;
            }
            Event::Prompt { .. } => panic!("nobody asked for that"),
            Event::Failed(message) => panic!("{message}"),
        }
    }
    assert_eq!(text, collect(engine.submit(sampled(prompt(10, 0), 60, 21)).unwrap()).text);
}
