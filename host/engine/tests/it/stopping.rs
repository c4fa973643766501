//! How a generation ends.

use std::time::{Duration, Instant};

use espalier_engine::{Event, FinishReason, GenerateRequest, SamplingParams};

use crate::fixture::{collect, config, engine, model, prompt, sampled, sampling};

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
fn nothing_ends_a_completion_before_its_least_length() {
    let engine = engine(&config());
    let ends = model().0.spec().eos.clone();
    let towards_the_end = |stop: &[&str]| {
        let sampling =
            SamplingParams::greedy().with_logit_bias(ends.iter().map(|&end| (end, 100.0)).collect());
        let stop = stop.iter().map(|stop| (*stop).to_owned()).collect();
        GenerateRequest::new(prompt(10, 0), Some(20), sampling.unwrap(), stop).unwrap()
    };
    assert!(!ends.is_empty());
    let ended = collect(engine.submit(towards_the_end(&[])).unwrap());
    assert_eq!((ended.usage.completion_tokens, ended.reason), (1, FinishReason::Stop));
    let later = collect(engine.submit(towards_the_end(&[]).with_min_tokens(7).unwrap()).unwrap());
    assert_eq!((later.usage.completion_tokens, later.reason), (8, FinishReason::Stop));
    let never = collect(engine.submit(towards_the_end(&[]).ignoring_end()).unwrap());
    assert_eq!(
        (never.usage.completion_tokens, never.reason, never.text.as_str()),
        (20, FinishReason::Length, "")
    );
    let first: String = later.text.chars().take(1).collect();
    let stopped = collect(engine.submit(towards_the_end(&[&first]).with_min_tokens(7).unwrap()).unwrap());
    assert_eq!(stopped, later, "the stop string only counts after seven tokens");
    assert!(towards_the_end(&[]).with_min_tokens(21).is_err());
}

#[test]
fn every_token_is_reported_where_that_is_asked_for() {
    let engine = engine(&config());
    let request = sampled(prompt(10, 0), 60, 21).with_every_token();
    let submitted = Instant::now();
    let mut stream = engine.submit(request).unwrap();
    let (mut ids, mut text) = (Vec::new(), String::new());
    loop {
        match stream.blocking_recv().unwrap() {
            Event::Text { text: piece, token_ids, .. } => {
                assert!(!token_ids.is_empty() || !piece.is_empty());
                ids.extend(token_ids);
                text.push_str(&piece);
            }
            Event::Finished { usage, times, .. } => {
                assert_eq!(ids.len(), usage.completion_tokens);
                assert!(times.first_token > Duration::ZERO && times.first_token < times.total);
                assert!(times.total <= submitted.elapsed());
                break;
            }
            Event::Prompt { .. } => panic!("nobody asked for that"),
            Event::Failed(message) | Event::GrammarTooComplex(message) => panic!("{message}"),
        }
    }
    assert_eq!(text, collect(engine.submit(sampled(prompt(10, 0), 60, 21)).unwrap()).text);
}
