//! How probable the tokens were.

use espalier_engine::{EngineConfig, Event, EventStream, GenerateRequest, SamplingParams, TokenLogprobs};

use crate::fixture::{config, engine, prompt, sampled};

/// The log-probabilities of prompt and completion, and the completion's tokens.
fn read(mut stream: EventStream) -> (Vec<TokenLogprobs>, Vec<TokenLogprobs>, Vec<u32>) {
    let (mut of_prompt, mut of_completion, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match stream.blocking_recv().unwrap() {
            Event::Prompt { logprobs } => of_prompt.extend(logprobs),
            Event::Text { token_ids, logprobs, .. } => {
                assert_eq!(token_ids.len(), logprobs.len());
                tokens.extend(token_ids);
                of_completion.extend(logprobs);
            }
            Event::Finished { usage, .. } => {
                assert_eq!(tokens.len(), usage.completion_tokens);
                return (of_prompt, of_completion, tokens);
            }
            Event::Failed(message) | Event::GrammarTooComplex(message) => panic!("{message}"),
        }
    }
}

#[test]
fn every_token_has_one_and_greedy_tokens_are_the_most_probable() {
    let sampling = SamplingParams::greedy();
    let request = GenerateRequest::new(prompt(10, 0), Some(30), sampling, Vec::new()).unwrap();
    let (of_prompt, scored, tokens) =
        read(engine(&config()).submit(request.with_logprobs(3).unwrap()).unwrap());
    assert!(of_prompt.is_empty());
    for (score, token) in scored.iter().zip(tokens) {
        assert_eq!((score.token, score.top.len(), score.top[0].0), (token, 3, token));
        assert_eq!(score.logprob, score.top[0].1);
        assert!(score.top.is_sorted_by(|one, next| one.1 >= next.1) && score.logprob <= 0.0);
    }
}

#[test]
fn a_prompt_scores_as_its_tokens_do_when_they_are_generated() {
    let tokens = prompt(150, 3);
    let scored = |step_tokens: usize| {
        let config = EngineConfig { max_step_tokens: step_tokens, max_sequences: 1, ..config() };
        let request = sampled(tokens.clone(), 1, 2).with_logprobs(1).unwrap().with_prompt_logprobs();
        read(engine(&config).submit(request).unwrap())
    };
    let whole = scored(512);
    assert_eq!(whole.0.len(), tokens.len() - 1);
    assert!(whole.0.iter().zip(&tokens[1..]).all(|(score, token)| score.token == *token));
    assert_eq!(scored(17), whole);
    for position in [1, 40, 149] {
        let sampling = SamplingParams::greedy();
        let request =
            GenerateRequest::new(tokens[..position].to_vec(), Some(1), sampling, Vec::new()).unwrap();
        let (_, next, _) = read(engine(&config()).submit(request.with_logprobs(1).unwrap()).unwrap());
        assert_eq!(next[0].top, whole.0[position - 1].top, "the token at {position}");
    }
}

#[test]
fn scores_are_the_same_among_others_and_others_among_scores() {
    let shared = engine(&config());
    let request = |seed: u32| sampled(prompt(90, seed), 20, u64::from(seed)).with_logprobs(2).unwrap();
    let alone: Vec<_> = (0..6)
        .map(|seed| read(engine(&config()).submit(request(seed).with_prompt_logprobs()).unwrap()))
        .collect();
    let streams: Vec<_> = (0..6)
        .map(|seed| {
            let request = request(seed);
            shared.submit(if seed < 3 { request.with_prompt_logprobs() } else { request }).unwrap()
        })
        .collect();
    for (index, (together, alone)) in streams.into_iter().map(read).zip(alone).enumerate() {
        assert_eq!((&together.1, &together.2), (&alone.1, &alone.2));
        assert!(index >= 3 || together.0 == alone.0);
    }
}

#[test]
fn too_many_alternatives_are_refused() {
    assert!(sampled(prompt(3, 0), 1, 0).with_logprobs(21).is_err());
}
