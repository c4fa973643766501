//! Gradients that do not depend on how they are computed, or little.

use espalier_kernels::Cpu;
use espalier_training::{Gradients, Network, Objective, PassOptions, Trainable};

use crate::models::{batch, gpt_oss, llama, network, synthesized};

#[test]
fn checkpointed_activations_give_the_same_bits() {
    let (_directory, checkpoint) = synthesized(&gpt_oss());
    let network = network(&checkpoint, Trainable::All);
    let batch = batch(2, 23, 300);
    let run = |activation_checkpointing| {
        let mut gradients = Gradients::zeros(&network);
        let options = PassOptions { activation_checkpointing };
        let loss =
            network.accumulate_gradients(&batch, &Objective::CrossEntropy, options, &mut gradients).unwrap();
        (loss.to_bits(), gradients)
    };
    let (kept, again) = (run(false), run(true));
    assert_eq!(kept.0, again.0);
    assert_eq!(kept.1.values(), again.1.values());
    assert!(kept.1.values().iter().all(|values| values.iter().any(|value| *value != 0.0)));
}

#[test]
fn products_in_bf16_give_nearly_the_same_loss_and_gradients() {
    let (_directory, checkpoint) = synthesized(&llama());
    let batch = batch(2, 23, 300);
    let run = |network: &Network| {
        let mut gradients = Gradients::zeros(network);
        let options = PassOptions::default();
        let loss =
            network.accumulate_gradients(&batch, &Objective::CrossEntropy, options, &mut gradients).unwrap();
        (loss, gradients.values().concat())
    };
    let cpu = Cpu::new(2).unwrap();
    let (loss, exact) = run(&network(&checkpoint, Trainable::All));
    let (rounded_loss, rounded) = run(&network(&checkpoint, Trainable::All).with_rounded_products(&cpu));
    assert!((rounded_loss / loss - 1.0).abs() < 1e-3, "{rounded_loss}, expected {loss}");
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
    let difference = norm(&mut exact.iter().zip(&rounded).map(|(exact, rounded)| exact - rounded));
    let share = difference / norm(&mut exact.iter().copied());
    assert!(share < 2e-2, "{share}");
    assert_eq!(share > 0.0, cpu.has_bf16_products(), "{share}");
}
