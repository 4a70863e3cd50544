"""Which test compares which array of the original authors' code, and what none compares, and why.

Files and keys are regular expressions that match as a whole; every key matches one pattern.
"""

INPUT = "input"  # some test reads it
OMITTED = "not compared: "  # and the reason

RESNET32 = "test_golden_resnet32.py::"
STEPS = "test_golden_resnet32_steps.py::"
LOSSES = "test_golden_losses.py::"
BBN = "test_golden_bbn.py::"
OLTR = "test_golden_oltr.py::"
RIDE = "test_golden_ride.py::"
MODERN = "test_golden_modern.py::"
LFME = "test_golden_lfme.py::"
CAM = "test_golden_cam.py::"
SAMPLING = "test_sampling.py::"
METRICS = "test_metrics.py::"
MIXING = "test_mixing.py::"
DECOUPLED = "test_decoupled.py::"
OPTIM = "test_optim.py::"
SPLITS = "test_splits.py::"

NO_COUNTER = OMITTED + "counters of batches, which ltjax does not keep"

# file -> who compares what
KEYS = {
    "balpoe_loss": {
        INPUT: (".*/class_counts", ".*/tau_list", ".*/expert_logits", ".*/target",
                "mixup/(lambda|perm|image)"),
        MODERN + "test_losses_and_their_gradients_are_the_authors":
            ("(?!mixup).*/loss", "(?!mixup).*/grad_expert_logits"),
        MODERN + "test_shifts_losses_of_heads_and_means_are_the_authors":
            (".*/expert_losses", ".*/bias", ".*/mean_logits"),
        MODERN + "test_the_loss_of_blends_is_the_authors":
            "mixup/(loss|grad_expert_logits|mixed_image)",
        OMITTED + "the parameter of the distribution from which the given share is": "mixup/alpha",
    },
    "bbn_mixed_loss": {
        INPUT: ("logits", "label_[ab]", "epochs"),
        BBN + "test_the_mixed_loss_and_its_gradient_are_the_authors":
            r"epoch\d+/(alpha|loss|grad_logits|acc)",
    },
    "bbn_resnet32": {
        INPUT: ("state_dict/.*(?<!num_batches_tracked)", "(image|label)_[ab]", "epochs"),
        BBN + "test_features_and_predictions_are_the_authors": "eval/.*",
        BBN + "test_both_passes_their_gradients_and_statistics_are_the_authors":
            "train/.*(?<!num_batches_tracked)",
        NO_COUNTER: ".*/.*num_batches_tracked",
    },
    "bbn_sampler": {
        INPUT: ".*/u",
        BBN + "test_reversed_sampling_is_the_authors":
            ".*/(class_counts|class_weight|sum_weight|prob_reverse|class_index)",
    },
    "bbn_schedule": {
        INPUT: "lr_cfg/cifar",
        BBN + "test_alpha_falls_as_the_authors": "(alpha|div_epoch)/.*",
        BBN + "test_rates_are_the_authors": "lr/cifar",
    },
    "fsa_cam_fusion": {
        INPUT: ("base_seed", "keys", "shapes", "x_shape", "target", "ts", "tg", "mask"),
        "test_golden_fsa.py::"
        "test_maps_fused_features_and_their_logits_are_those_of_the_unofficial_code":
            ("logits", "feature_map", "cam", "fused", "fused_logits"),
        OMITTED + "thresholds of draws that are not given; the mask made of them is": "gamma",
    },
    "lfme_imagenet_split": {
        INPUT: "class_counts",
        LFME + "test_the_parts_of_imagenet_lt_are_the_authors": "(many|median|low)_shot",
    },
    "lfme_losses": {
        INPUT: ("student_logits", "target", "instance_weight_init", "classes/.*",
                "teacher_logits/.*", "hp/.*", "expert_acc", "student_acc_cases", "epochs",
                "expert_weight_curve/student_over_expert", "instance_schedule/init",
                "curriculum/(labels|confidence)"),
        LFME + "test_distillation_and_its_gradient_are_the_authors": "distill/.*",
        LFME + "test_the_whole_loss_and_its_gradient_are_the_authors": "total/.*",
        LFME + "test_a_teacher_counts_less_as_the_authors_let_it": "expert_weight_curve/weight",
        LFME + "test_the_schedule_of_images_is_the_authors_from_epoch_to_epoch":
            "instance_schedule/weight_by_epoch",
        LFME + "test_images_begin_with_the_authors_weights": "curriculum/init_weight",
        LFME + "test_the_confidence_of_the_own_teacher_is_the_authors":
            "curriculum/expert_confidence_of_target",
    },
    "ncl_loss": {
        INPUT: ".*/(class_counts|expert_logits|target|hcm_n|factor_full|factor_hcm)",
        MODERN + "test_losses_and_their_gradients_are_the_authors": ".*/(loss|grad_expert_logits)",
        MODERN + "test_disagreement_on_all_classes_is_the_authors": ".*/nbod_full",
    },
    "oltr_cosine_classifier": {
        INPUT: ("weight", "x", "cotangent"),
        OLTR + "test_the_cosine_classifier_and_its_gradients_are_the_authors":
            ("logits", "grad_x", "grad_weight", "scale"),
    },
    "oltr_disc_centroids": {
        INPUT: ".*/(features|centroids|target)",
        OLTR + "test_the_centroid_loss_and_the_authors_own_rule_are_theirs_on_any_mesh":
            (".*/(attract|repel)", ".*/weight[^/]*/.*"),
    },
    "oltr_meta_embedding": {
        INPUT: ("state_dict/.*", "features", "centroids", "target"),
        OLTR + "test_the_meta_embedding_and_its_gradients_are_the_authors":
            ("logits", "ce", "(direct|infused|memory)_feature", "grad_features", "grad/.*",
             "dist_to_centroids", "reachability", "concept_selector", "meta_embedding"),
    },
    "oltr_modulated_attention": {
        INPUT: ("state_dict/.*", "x", "cotangent"),
        OLTR + "test_modulated_attention_and_its_gradients_are_the_authors":
            ("output", "spatial_attention", "self_attention_map", "grad_x", "grad/.*"),
    },
    "oltr_resnet10_imagenet": {
        INPUT: ("base_seed", "feature/.*", "classifier/.*"),
        OLTR + "test_both_networks_of_imagenet_are_the_authors":
            ("num_params_.*", "eval/.*", "train/.*", "stage1/eval_features"),
        OMITTED + "names, which are the first of another list of them": "stage1/keys",
    },
    "ride_ea": {
        INPUT: ("x", "target", "hp/.*", "ea_params/.*"),
        RIDE + "test_the_router_is_the_authors": ("train/.*", "eval/.*"),
    },
    "ride_loss": {
        INPUT: (".*/(expert_logits|target|class_counts|epochs)", ".*/hp/.*",
                "distill/teacher_logits", "ldam_drw/logits"),
        RIDE + "test_the_loss_and_its_gradient_are_the_authors":
            (".*/(ldam_margin_m|class_weight_after|diversity_weight_after)",
             ".*/(mean_logits|eval_loss)",
             r"(?!distill|ldam_drw).*/epoch\d+/.*"),
        RIDE + "test_distillation_is_the_authors": r"distill/epoch\d+/.*",
        RIDE + "test_one_head_without_diversity_is_ldam_drw": r"ldam_drw/epoch\d+/.*",
    },
    "ride_resnet10_imagenet": {
        INPUT: ("base_seed", "keys", "shapes", "x_shape"),
        "test_golden_branches.py::test_resnet10_with_three_heads_is_the_authors":
            ("num_params", "eval/.*", "train/.*"),
    },
    "ride_resnet32": {
        INPUT: ("state_dict/.*", "x", "target", "class_counts"),
        "test_golden_branches.py::test_resnet32_with_three_heads_is_the_authors":
            ("eval/.*", r"train/epoch\d+/(expert|mean)_logits", "train/epoch1/after_forward/.*"),
        RIDE + "test_gradients_of_the_network_are_the_authors": r"train/epoch\d+/(loss|grad/.*)",
    },
    "ride_schedule": {INPUT: "cfg/.*", RIDE + "test_rates_are_the_authors": "lr/.*"},
    "sade_loss": {
        INPUT: ".*/(class_counts|tau|expert_logits|target)",
        MODERN + "test_losses_and_their_gradients_are_the_authors": ".*/(loss|grad_expert_logits)",
        MODERN + "test_the_reversed_prior_is_the_authors": ".*/(inverse_)?prior",
        MODERN + "test_predictions_are_of_the_mean_of_logits": ".*/eval_loss",
    },
    "sade_test_time": {
        INPUT: ("view[01]_expert_logits", "batch_size", "lr", "momentum", "weight_decay"),
        MODERN + "test_weights_of_heads_at_test_time_are_the_authors":
            ("raw_weight_.*", "softmax_weight_.*"),
    },
    "sm_cam": {
        INPUT: (".*/(images|labels|feature_maps|classifier_weight|counts)",
                ".*/gen_(source_index|choice|params)"),
        CAM + "test_class_maps_are_the_authors": ".*/gen_cam_small",
        CAM + "test_maps_at_the_size_of_the_image_are_opencvs": ".*/gen_cam",
        CAM + "test_the_foreground_is_the_authors": ".*/gen_(threshold|foreground)",
        CAM + "test_places_that_pixels_come_from_are_the_authors": ".*/gen_affine",
        CAM + "test_images_are_the_authors": ".*/gen_image",
        CAM + "test_new_images_are_of_the_classes_that_lack_them": ".*/gen_label",
        CAM + "test_numbers_of_new_images_are_the_authors": ".*/num_generated_per_class",
        CAM + "test_all_classes_of_cifar_grow_to_one_size": "num_to_generate/cifar.*",
        CAM + "test_only_rare_classes_of_imagenet_lt_grow": "num_to_generate/imagenet_lt.*",
    },
    "sm_class_counts": {
        INPUT: "imagenet_lt",
        SPLITS + "test_class_counts_are_the_authors": "cifar.*",
        SPLITS + "test_groups_of_imagenet_lt_are_the_published_ones": "imagenet_lt_group",
    },
    "sm_class_weights": {
        LOSSES + "test_class_weights_margins_and_temperatures_are_the_authors": ".*",
    },
    "sm_decoupling": {
        INPUT: ("clf/.*", "tau/(weight|bias|feature)", "ncm/(train_.*|test_feature)",
                "lws_cb/(scales|targets)"),
        DECOUPLED + "test_tau_normalised_logits_are_the_authors":
            ("tau/grid", "tau/tau.*/(logits_no_bias|pred)", "taunorm_bot/.*/logits_with_bias"),
        DECOUPLED + "test_tau_normalised_weights_are_the_authors":
            ("tau/tau.*/weight", "taunorm_bot/.*/weight"),
        DECOUPLED + "test_scaled_logits_and_their_gradient_are_the_authors":
            "lws(_cb)?/(logits|ce|grad_scales)",
        DECOUPLED + "test_the_cosine_head_is_the_authors": "fcnorm/.*",
        DECOUPLED + "test_nearest_class_means_are_the_authors":
            ("ncm/centroids/.*", "ncm/(un|l2n|cl2n)_(l2|cos)/.*"),
        OMITTED + "the name of the scales, which only theirs has": "lws/trainable",
        OMITTED + "labels of features whose accuracy is not given": "ncm/test_label",
    },
    "sm_imagenet_backbones": {
        INPUT: ("seed_offset", "x_first5", "x_sum", ".*/(names|shapes)"),
        "test_golden_backbones.py::test_features_and_statistics_are_the_authors":
            (".*/eval_(feature|layer._channel_mean)", ".*/train_.*"),
        "test_golden_backbones.py::test_backbones_have_as_many_parameters_as_the_authors":
            ".*/num_params",
        OMITTED + "how far the authors' own float32 is from float64": ".*/f32_max_abs_dev_eval",
    },
    "sm_losses": {
        INPUT: "in/./(logits|targets|counts|U|seql_lambda|seql_gamma|seql_beta_mask)",
        LOSSES + "test_losses_and_their_gradients_are_the_authors":
            "out/(?!seql|vandit|logit_adjust_posthoc).*/(loss|grad)",
        LOSSES + "test_equalization_is_the_authors_given_their_draws":
            ("out/seql_.*/(loss|grad)", "in/./seql_tail_mask"),
        LOSSES + "test_posthoc_adjustment_is_the_authors": "out/logit_adjust_posthoc.*",
        LOSSES + "test_the_prior_is_the_authors": "in/./base_probs",
        OMITTED + "a third party's class-balanced loss that feeds softmax outputs to a binary "
        "cross-entropy; nobody should use it": "out/vandit_softmax.*",
        OMITTED + "a permutation that no output is made of": "in/./perm",
    },
    "sm_metrics": {
        INPUT: ("shot.*/(train_counts|pred|label)", "ece/./(logits|labels)"),
        METRICS + "test_group_accuracies_are_decouplings":
            "shot.*/(many|median|low|per_class|micro)",
        METRICS + "test_calibration_is_that_of_both_codes_with_other_numbers_of_bins":
            "ece/./bins.*",
        OMITTED + "the F measure of classes, which ltjax does not report": "shot/macro_f1",
    },
    "sm_mixup": {
        INPUT: ("[AB]/(x|W|b|targets|perm|counts|remix_ratio_ni_over_nj)", "remix_(kappa|tau)",
                "mixup_cifar10/(x|y|W)", "mixup_cifar10/lam.*/perm"),
        MIXING + "test_mixed_inputs_and_losses_are_the_authors":
            "[AB]/(manifold_)?mix_up_.*/(loss|mixed_input)",
        MIXING + "test_remix_is_the_authors_in_both_forms":
            ("[AB]/remix_persample_.*", "[AB]/remix_CrossEntropy_.*/loss"),
        MIXING + "test_remix_blends_inputs_as_mixup_does": "[AB]/remix_CrossEntropy_.*/mixed_input",
        MIXING + "test_mixup_is_that_of_its_authors": "mixup_cifar10/lam.*/(mixed_x|y_b|loss)",
        OMITTED + "the labels as they were": "mixup_cifar10/lam.*/y_a",
    },
    "sm_resnet32_init": {
        INPUT: ("x", "targets.*", "head/.*", "backbone/.*(?<!num_batches_tracked)"),
        NO_COUNTER: "backbone/.*num_batches_tracked",
        OMITTED + "the order of names, by which tensors are found": "state_dict_key_order",
    },
    "sm_resnet32_.*_grad": {
        RESNET32 + "test_logits_statistics_and_gradients_are_the_authors":
            ("(eval|train)_logits_f64", "eval_logits_after1_f64", "ce_loss_f64",
             "(eval|train)_feature", "grad/.*", "stats1/.*running_(mean|var)"),
        STEPS + "test_means_over_channels_of_all_stages_are_the_authors": ".*_channel_mean",
        STEPS + "test_outputs_in_float32_are_the_authors":
            ("(eval|train)_logits_f32", "eval_logits_after1_f32", "ce_loss_f32"),
        NO_COUNTER: "stats1/.*num_batches_tracked",
    },
    "sm_resnet32_.*_sgd3": {
        RESNET32 + "test_three_sgd_steps_are_the_authors":
            ("(gentle/)?losses_f64", "(gentle/)?eval_logits_after3_f64", "param/.*"),
        STEPS + "test_each_step_and_its_statistics_are_the_authors":
            ("step[123]/.*", "stats3/.*", "gentle/param/.*"),
        STEPS + "test_gentle_steps_in_float32_are_the_authors":
            ("(gentle/)?losses_f32", "gentle/eval_logits_after3_f32"),
        OMITTED + "float32 after three steps at a rate of 0.1, by which rounding errors have grown "
        "to a fifth of the updates and more": "eval_logits_after3_f32",
    },
    "sm_samplers": {
        INPUT: ".*/counts",
        SAMPLING + "test_resampling_by_the_effective_number_has_ldam_drws_probabilities":
            "effnum_resample/(class_prob|instance_weight_per_class|num_samples)",
        SAMPLING + "test_samplers_by_class_have_the_authors_probabilities":
            ("bot/.*/(instance_p|class_balanced_p|square_root_p|reverse_p|reverse_class_weight)",
             "cb/(uniform|class_balanced|root2|root3|root4_mix|mixed_sqrt)/class_prob"),
        LOSSES + "test_class_probabilities_are_the_authors": "bot/.*/progressive_p_.*",
        SAMPLING + "test_deferred_sampling_sets_in_when_the_authors_does": "bot/.*/drs_active_.*",
        SAMPLING + "test_weights_of_images_are_decouplings_in_its_mixed_mode":
            "cb/mixed_sqrt/instance_weight",
        SAMPLING + "test_progressive_sampling_has_decouplings_shares_in_every_epoch":
            "cb/progressive_epochs90/.*",
        SAMPLING + "test_class_aware_sampling_has_the_structure_of_decouplings":
            "cb/class_aware/.*",
    },
    "sm_schedules": {
        INPUT: "sgd/.*",
        OPTIM + "test_the_step_schedule_is_ldam_drws": "ldam_drw_lr",
        OPTIM + "test_the_step_schedule_can_be_those_of_bag_of_tricks":
            "bot_(cifar_(baseline|mixup)|cifar100_cam|imagenetlt)_.*",
        OPTIM + "test_second_phases_have_the_authors_schedules":
            "bot_(cifar_crt_lws|cifar10_cam|finetune)_.*",
        OPTIM + "test_the_cosine_schedule_is_decouplings": "cbal_cosine_.*",
        OPTIM + "test_sgd_is_pytorchs": "sgd_(heavyball|nesterov)/params",
        LOSSES + "test_deferred_weights_are_the_authors_before_and_after": "ldam_drw_weights/.*",
        OMITTED + "rates that change within an epoch, which ltjax does not have":
            ("cb_tf_lr/.*", "google_la_lr/.*"),
    },
    "sm_subset_selection": {
        INPUT: ".*/all_targets",
        SPLITS + "test_the_chosen_images_are_the_authors":
            "[^/]*/(exp|step)_[^/]*/(selected_index|counts)",
        SPLITS + "test_the_chosen_images_have_the_authors_labels": ".*/selected_targets",
        SPLITS + "test_the_full_size_selection_is_the_authors": ".*/sorted_full_.*",
    },
    "test_average": {
        INPUT: ("expert_logits", "target", "class_counts"),
        METRICS + "test_the_test_average_is_its_definition":
            ("mean_prob", "pred_.*", "acc_average", "acc_logit_average", "cross_table_.*",
             "pairwise_disagreement", "nll_.*"),
        METRICS + "test_accuracies_by_groups_and_the_spread_of_experts_are_the_definition":
            ("class_group", "acc_experts", "acc_average_of_first_n",
             "per_sample_variance_of_target_prob"),
    },
}  # fmt: skip
