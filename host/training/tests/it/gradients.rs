//! Gradients that do not depend on how they are computed.

use espalier_training::{Gradients, Objective, PassOptions, Trainable};

use crate::models::{batch, gpt_oss, network, synthesized};

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
