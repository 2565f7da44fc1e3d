"""Names of operators, as recorded traces have them, get the class an engineer would give them; or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit.trace import opclasses
from profkit.trace.opclasses import (
    NAMES,
    kernel_class,
    scope_facts,
    tensorflow_class,
    torch_class,
    xla_class,
)

PYTORCH = {
    "aten::conv2d": "conv",
    "aten::_convolution": "conv",
    "aten::cudnn_convolution_backward_weight": "conv",
    "aten::mkldnn_convolution": "conv",
    "ConvolutionBackward0": "conv",
    "autograd::engine::evaluate_function: ConvolutionBackward0": "conv",
    "CudnnConvolutionBackward": "conv",
    "onednn::qconv2d_pointwise": "conv",
    "aten::linear": "matmul",
    "aten::addmm": "matmul",
    "AddmmBackward0": "matmul",
    "aten::_scaled_mm": "matmul",
    "vllm::rocm_unquantized_gemm": "matmul",
    "quantized::linear_dynamic": "matmul",
    "aten::lstm": "rnn",
    "aten::_thnn_fused_gru_cell": "rnn",
    "aten::_cudnn_rnn": "rnn",
    "aten::native_batch_norm_backward": "norm",
    "aten::_batch_norm_impl_index": "norm",
    "NativeLayerNormBackward0": "norm",
    "aiter::rmsnorm2d_fwd_with_add_ck": "norm",
    "aten::max_pool2d_with_indices": "pool",
    "MaxPool2DWithIndicesBackward": "pool",
    "AdaptiveAvgPool2DBackward0": "pool",
    "torchvision::roi_align": "pool",
    "aten::_scaled_dot_product_flash_attention": "attention",
    "ScaledDotProductEfficientAttentionBackward0": "attention",
    "aten::embedding_dense_backward": "embedding",
    "torch::autograd::CppNode<SplitLookupFunction_rowwise_adagrad_Op>": "embedding",
    "aten::binary_cross_entropy_with_logits": "loss",
    "NllLossBackward0": "loss",
    "aten::_log_softmax_backward_data": "softmax",
    "aten::native_dropout": "dropout",
    "aten::add_": "elementwise",
    "aten::threshold_backward": "elementwise",
    "aten::_foreach_addcdiv_": "elementwise",
    "prims::where": "elementwise",
    "aten::_fused_adamw_": "optimizer",
    "Optimizer.step#SGD.step": "optimizer",
    "aten::copy_": "copy",
    "aten::_to_copy": "copy",
    "aten::cat": "copy",
    "quantized::quantize_per_tensor": "copy",
    "aten::empty_strided": "create",
    "aten::zero_": "create",
    "TBackward0": "view",
    "aten::as_strided_": "view",
    "aten::split_with_sizes": "view",
    "aten::_index_put_impl_": "index",
    "aten::topk": "index",
    "aten::mean": "reduce",
    "aten::cumsum": "reduce",
    "aten::item": "sync",
    "aten::_local_scalar_dense": "sync",
    "c10d::allreduce_": "communication",
    "_c10d_functional::all_gather_into_tensor": "communication",
    "record_param_comms": "communication",
    "gloo:all_reduce": "communication",
    "All2All_Pooled_WaitBackward": "communication",
    "aten::upsample_nearest2d": "resample",
    "aten::linalg_solve_ex": "linalg",
    "torch::autograd::AccumulateGrad": "control",
    "Torch-Compiled Region: 0/0": "fusion",
    "## Call CompiledFxGraph f4bydqqgoqo3pkz62zgmyy657k234npiyx2dqx6aud7nb3juzmom ##": "fusion",
    "triton_poi_fused_add_cos_sin_0": "elementwise",
    "triton_red_fused_add_mean_mul_pow_rsqrt_0": "reduce",
}
# Names whose letters point the wrong way.
PYTORCH_TRAPS = {
    "prims::convert_element_type": "copy",
    "fb::convex_sum": None,
    "aten::normal_": "random",
    "aten::_philox_normal": "random",
    "aten::linalg_vector_norm": "reduce",
    "aten::_foreach_norm": "reduce",
    "sglang_profiler::memory_pool__set_kv_buffer_impl_353": None,
    "fbgemm::permute_pooled_embs_auto_grad": "index",
    "fbgemm::asynchronous_complete_cumsum": "reduce",
    "_C::rotary_embedding": "elementwise",
    "aten::is_nonzero": "sync",
    "aten::is_pinned": "view",
    "aten::tensordot": "matmul",
    "aten::minimum": "elementwise",
    "aten::argmax": "reduce",
    "aten::masked_fill_": "elementwise",
    "aten::mkldnn_reorder_conv2d_weight": "copy",
    "aten::logsumexp": "reduce",
    "aten::broadcast_tensors": "view",
    "aten::soft_margin_loss": "loss",
    "aten::softplus": "elementwise",
    "aten::sym_size": "view",
    "forward": None,
    "mylib::frobnicate": None,
    "": None,
}
TENSORFLOW = {
    "Conv2D": "conv",
    "_FusedConv2D": "conv",
    "_MklNativeFusedConv2D": "conv",
    "_MklNativeConv2DBackpropFilterWithBias": "conv",
    "Conv2DBackpropInput": "conv",
    "DepthwiseConv2dNativeBackpropFilter": "conv",
    "MatMul": "matmul",
    "_MklMatMul": "matmul",
    "_MklNativeFusedMatMul": "matmul",
    "BatchMatMulV2": "matmul",
    "Einsum": "matmul",
    "CudnnRNNV3": "rnn",
    "FusedBatchNormV3": "norm",
    "_FusedBatchNormEx": "norm",
    "FusedBatchNormGradV3": "norm",
    "_MklLayerNorm": "norm",
    "MaxPool": "pool",
    "_MklNativeMaxPoolGrad": "pool",
    "SparseSoftmaxCrossEntropyWithLogits": "loss",
    "Softmax": "softmax",
    "ResourceApplyAdam": "optimizer",
    "BiasAdd": "elementwise",
    "ReluGrad": "elementwise",
    "AddV2": "elementwise",
    "SelectV2": "elementwise",
    "AssignAddVariableOp": "elementwise",
    "BiasAddGrad": "reduce",
    "Sum": "reduce",
    "UnsortedSegmentSum": "reduce",
    "GatherV2": "index",
    "StridedSlice": "index",
    "ReadVariableOp": "view",
    "Reshape": "view",
    "AssignVariableOp": "copy",
    "Transpose": "copy",
    "TensorListFromTensor": "copy",
    "Fill": "create",
    "ZerosLike": "create",
    "StatelessRandomUniformV2": "random",
    "NcclAllReduce": "communication",
    "CollectiveReduceV2": "communication",
    "IteratorGetNext": "input",
    "OptionalHasValue": "input",
    "PrefetchDataset": "input",
    "StatefulPartitionedCall": "control",
    "EagerPyFunc": "control",
    "NoOp": "control",
    "_XlaRun": "fusion",
}
TENSORFLOW_TRAPS = {
    "Cast": "copy",
    "ConvertToCooTensor": None,
    "ArgMax": "reduce",
    "Maximum": "elementwise",
    "EuclideanNorm": "reduce",
    "RandomDataset": "input",
    "SaveDatasetV2": "input",
    "SparseMatrixSoftmax": "softmax",
    "ResizeBilinear": "resample",
    "SpaceToBatchND": "copy",
    "BatchToSpaceND": "copy",
    "L2Loss": "loss",
    "Where": "index",
    "MyOwnOp": None,
}
XLA = {
    "dot.3": "matmul",
    "convolution.17": "conv",
    "reduce-window.2": "pool",
    "reduce.4": "reduce",
    "scatter": "index",
    "dynamic-update-slice.1": "index",
    "copy-start": "copy",
    "transpose.2": "copy",
    "all-reduce": "communication",
    "all-gather-start.1": "communication",
    "rng-bit-generator": "random",
    "while.5": "control",
    "bitcast.9": "view",
    "fusion.12": "fusion",
    "ynn_fusion.4": "fusion",
    "loop_add_fusion": "elementwise",
    "multiply_add_fusion": "elementwise",
    "broadcast_multiply_fusion.3": "elementwise",
    "input_reduce_fusion_1": "reduce",
    "loop_convert_fusion.kd": "copy",
    "wrapped_convert.kd": "copy",
    "wrapped_broadcast.kd": "copy",
    "input_transpose_fusion_1.kd": "copy",
    "gemm_fusion_dot_general_1.kd": "matmul",
    "input_concatenate_fusion.kd": "copy",
    "cudnn-conv.1": "conv",
    "__cublas$gemm": "matmul",
    "MatMul_1.2": "matmul",
    "custom-call.1": "control",
    "my_kernel": None,
}
KERNELS = {
    "void cudnn::detail::dgrad_engine<float, 512, 6, 5, 3, 3, 3, false>(int, int, int, float const*)": "conv",
    "void implicit_convolve_sgemm<float, float, 1024, 6, 7, 3, 3, 5, 1, false, true, true>(int)": "conv",
    "volta_scudnn_128x64_relu_interior_nn_v1": "conv",
    "sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16": "conv",
    "igemm_wrw_gtcx2_nhwc_bf16_bx0_ex1_bt256x128x16_wt32x32x8": "conv",
    "Im3d2Col.kd": "conv",
    "volta_sgemm_128x64_nn": "matmul",
    "ampere_sgemm_32x32_sliced1x4_tn": "matmul",
    "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64": "matmul",
    "Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT256x192x64_MI16x16x1": "matmul",
    "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x64_64x6_tn_align8>": "matmul",
    "_matmul_ogs_NNT_bf16xbf16xmxfp4_128x128x128x1_swiglu": "matmul",
    "void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<64, 128>>": "attention",
    "void ck_tile::kentry<ck_tile::gfx950_t, 2, ck_tile::FmhaFwdKernel<ck_tile::Block>>": "attention",
    "kernel_unified_attention_3d": "attention",
    "void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, 512, true, 1>(cudnnTensorStruct)": "norm",
    "MIOpenBatchNormFwdTrainSpatialNorm": "norm",
    "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>(int)": "norm",
    "void at::native::(anonymous namespace)::max_pool_forward_nchw<float, float>(int)": "pool",
    "void (anonymous namespace)::softmax_warp_forward<float, float, float, 9, false, false>(float*)": "softmax",
    "void at::native::(anonymous namespace)::nll_loss_forward_reduce_cuda_kernel_2d<float>(float*)": "loss",
    "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)": "elementwise",
    "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>(int)": "create",
    "void at::native::elementwise_kernel<128, 2, at::native::direct_copy_kernel_cuda(at::Iter)>": "copy",
    "void at::native::(anonymous namespace)::CatArrayBatchedCopy<float, unsigned int, 2, 128, 1>": "copy",
    "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float>>>": "reduce",
    "void cub::DeviceRadixSortOnesweepKernel<cub::DeviceRadixSortPolicy<long, int, int>>": "index",
    "void multi_tensor_apply_kernel<TensorListMetadata<4>, AdamFunctor<float>, float>": "optimizer",
    "void split_embedding_codegen_forward_unweighted_kernel<float>(fbgemm_gpu::CacheMode)": "embedding",
    "triton_poi_fused__unsafe_view_addmm_cat_clone_gelu_transpose_view_34": "elementwise",
    "triton_per_fused_native_layer_norm_add_3": "norm",
    "triton_red_fused__softmax_2": "softmax",
    "triton_red_fused__log_softmax_nll_loss_forward_1": "fusion",
    "triton_poi_fused_max_pool2d_with_indices_relu_1": "pool",
    "triton_tem_fused_mm_relu_4": "matmul",
    "triton_poi_fused__to_copy_1": "copy",
    "triton_poi_fused_0": "elementwise",
    "fc-dtype_Float": "matmul",
    "aten::mul.out-dtype_Float": "elementwise",
    "layer_norm_backward-dtype_Float": "norm",
    "broadcast_add_fusion.1": "elementwise",
    "loop_copy_add_fusion": "elementwise",
}
KERNEL_TRAPS = {
    "void fbgemm_gpu::permute_2D_data_kernel<false, int, int, decltype(nullptr)>(int)": "index",
    "void at::native::vectorized_elementwise_kernel<4, at::native::masked_fill_kernel(at::Iter)>": "elementwise",
    "void (anonymous namespace)::clamp_position_kernel<long>(long*)": None,
    "pe_exe": None,
    "merge": None,
}


@pytest.mark.parametrize(("name", "expected"), [*PYTORCH.items(), *PYTORCH_TRAPS.items()])
def test_operators_of_pytorch_have_their_class(name: str, expected: str | None) -> None:
    assert torch_class(name) == expected


@pytest.mark.parametrize(("name", "expected"), [*TENSORFLOW.items(), *TENSORFLOW_TRAPS.items()])
def test_operators_of_tensorflow_have_their_class(name: str, expected: str | None) -> None:
    assert tensorflow_class(name) == expected


@pytest.mark.parametrize(("name", "expected"), XLA.items())
def test_instructions_of_xla_have_their_class(name: str, expected: str | None) -> None:
    assert xla_class(name) == expected


@pytest.mark.parametrize(("name", "expected"), [*KERNELS.items(), *KERNEL_TRAPS.items()])
def test_device_kernels_have_the_class_of_their_name(name: str, expected: str | None) -> None:
    assert kernel_class(name) == expected


@pytest.mark.parametrize(
    ("scope", "op_class", "is_backward"),
    [
        ("StatefulPartitionedCall/adam/mul_3", "optimizer", False),
        ("StatefulPartitionedCall/functional_1/layer_normalization_1/moments/mean", "norm", False),
        ("StatefulPartitionedCall/gradient_tape/functional_1/batch_normalization_1/moments/sub", "norm", True),
        ("gradient_tape/sequential_1/conv2d_1_2/convolution/Conv2DBackpropInput", None, True),
        ("StatefulPartitionedCall/compile_loss/sparse_categorical_crossentropy/Sum", "loss", False),
        ("StatefulPartitionedCall/functional_1/spatial_dropout2d_1/stateless_dropout/SelectV2", "dropout", False),
        ("sequential_1/adaptive_layer/Mul", None, False),
        ("sgd", None, False),  # an operator of that name, under no scope
        ("", None, False),
    ],
)
def test_a_scope_tells_the_layer_the_loss_the_optimizer_and_the_backward_pass(
    scope: str, op_class: str | None, is_backward: bool
) -> None:
    facts = scope_facts(scope)
    assert (facts.op_class, facts.is_backward) == (op_class, is_backward)


any_name = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.sampled_from(
            (
                *(
                    "aten::",
                    "triton_",
                    "poi",
                    "red",
                    "tem",
                    "fused",
                    "_",
                    "fusion",
                    "wrapped_",
                    ".kd",
                    "Backward0",
                    "Mkl",
                ),
                *("V2", "conv", "norm", "<", ">", "::", "-dtype_", "torch::autograd::CppNode<", "add", "mm", "7", " "),
            )
        ),
        max_size=12,
    ).map("".join),
)


@given(any_name)
def test_any_name_has_one_class_of_the_table_or_none(name: str) -> None:
    for classify in (torch_class, tensorflow_class, xla_class, kernel_class):
        found = classify(name)
        assert found is None or found in NAMES
        assert classify(name) == found


@given(any_name)
def test_any_scope_can_be_read(scope: str) -> None:
    assert scope_facts(scope).op_class in (None, *NAMES)


OWN_GRADIENTS = {"select", "slice", "diagonal", "unfold"}  # views, whose gradients are scattered into zeros


@pytest.mark.parametrize("row", opclasses.TABLE, ids=lambda row: row.name)
def test_an_in_place_operator_its_output_variant_and_its_gradient_have_the_same_class(row: opclasses.OpClass) -> None:
    whole = [word for word in row.torch.split() if word.islower() and "*" not in word]
    for word in whole:
        assert torch_class(f"aten::{word}") == torch_class(f"aten::{word}_") == row.name, word
        assert torch_class(f"aten::{word}.out") == row.name, word
        assert word in OWN_GRADIENTS or torch_class(f"aten::{word}_backward") == row.name, word


def test_a_name_cannot_stand_in_two_classes() -> None:
    with pytest.raises(ValueError, match="'mm' stands in two classes: matmul, conv"):
        opclasses.Column((("matmul", "mm bmm"), ("conv", "mm")))


def test_the_documented_table_is_the_one_the_code_reads() -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "operators.md"
    assert page.read_text(encoding="utf-8") == opclasses.document()
