"""The operator classes: one table from the names of every framework to a common word, and the rules that read it.

A cell of the table holds words: `mm` is a whole name, `conv2d*` a beginning, `*_mm` an end, `*attention*` a part of a
name. A whole name counts for more than any word with a star; of these, the first row decides. Names are looked up in
the column of whoever wrote them, after what says nothing about their class has been taken off: `aten::add_` is `add`,
`ConvolutionBackward0` is `convolution`, `_MklNativeFusedConv2D` is `Conv2D`, `wrapped_convert.kd` is `convert`.
docs/operators.md shows this table to users; `python -m profkit.trace.opclasses` prints it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpClass:
    """One row: the class, what it means, and the words of each column, parted by spaces."""

    name: str
    meaning: str
    torch: str = ""  # operators and autograd nodes of PyTorch and of libraries that register their own
    tensorflow: str = ""  # types of operators
    xla: str = ""  # opcodes of HLO, which JAX and compiled TensorFlow run
    kernel: str = ""  # what device kernels call themselves
    keras: str = ""  # parts of the scope that Keras gives its layers, losses and optimizers


# Rows that are asked first stand first: a fused attention kernel is attention, whatever else its name holds.
TABLE = (
    OpClass(
        "communication",
        "ranks or devices exchange data",
        torch="c10d::* _c10d_functional::* c10d_functional::* symm_mem::* nccl:* gloo:* mpi:* record_param_comms "
        "all2_all_* *all_reduce* *all_gather* *reduce_scatter* *all_to_all*",
        tensorflow="Collective* Nccl* CrossReplicaSum AllToAll DTensorAll* DTensorReduceScatter XlaAllReduce "
        "XlaReduceScatter",
        xla="all-reduce* all-gather* all-to-all* reduce-scatter* collective-* ragged-all-to-all* psum send recv "
        "send-done recv-done",
        kernel="*nccl* *rccl* *oneccl* *cross_device_reduce* *all_reduce* *allreduce*",
    ),
    OpClass(
        "attention",
        "attention computed by one operator; where it is put together from products and a softmax, those count",
        torch="*attention* *sdpa* *flash_attn* fmha* *paged_attn* *flex_attention*",
        xla="*fused_attn* *fmha*",
        kernel="*attention* *Attention* *flash_fwd* *flash_bwd* *fmha* *Fmha* *flash_attn* *fused_attn* attn_fwd* "
        "attn_bwd* *paged_attn* sage_fwd*",
    ),
    OpClass(
        "optimizer",
        "the update of the parameters, and all that runs inside the optimizer but communication and waits",
        torch="Optimizer.* fused_adam fused_adamw fused_sgd fused_adagrad amp_update_scale "
        "amp_foreach_non_finite_check_and_unscale",
        tensorflow="ResourceApply* ResourceSparseApply* Apply* SparseApply*",
        kernel="*FusedAdam* *AdamFunctor* *FusedSgd* *SGDFunctor* *FusedAdagrad* *LAMBStage* *lamb_kernel*",
        keras="adam adamw adamax nadam adagrad adadelta adafactor sgd rmsprop ftrl lion lamb muon "
        "loss_scale_optimizer",
    ),
    OpClass(
        "conv",
        "convolutions and both of their gradients",
        torch="convolution conv_tbc im2col col2im conv_transpose* slow_conv* conv_depthwise* *convolution* *conv1d* "
        "*conv2d* *conv3d*",
        tensorflow="Conv XlaConv Conv2D* Conv3D* DepthwiseConv2d* PadWithConv2D* PadWithFusedConv2D* QuantizedConv* "
        "QuantizedDepthwiseConv* FusedPadConv2D FusedResizeAndPadConv2D Dilation2D* UniformQuantizedConvolution*",
        xla="convolution* conv_general_dilated* cudnn-conv* __cudnn$conv* conv",
        kernel="*convolve* *convolution* *scudnn* *hcudnn* *_fprop* *fprop_* *_dgrad* *dgrad_* *_wgrad* *wgrad_* "
        "*winograd* *Winograd* *implicit_gemm* igemm_fwd_* igemm_bwd_* igemm_wrw_* *miopenSp3AsmConv* *im2col* "
        "Im2d2Col* Im3d2Col* *Im2Col* *conv_depthwise* *conv2d* *conv3d* *naive_conv* *ConvFwd* *ConvBwd* "
        "*cask_cudnn*",
    ),
    OpClass(
        "matmul",
        "products of matrices and vectors",
        torch="mm bmm addmm addmv addbmm baddbmm addr matmul linear mv dot vdot inner outer ger einsum tensordot "
        "chain_matmul bilinear trilinear smm sspaddmm hspmm linalg_multi_dot linalg_vecdot qlinear* mkldnn_linear* "
        "linear_dynamic* linear_relu* linear_backward* *linear_pointwise* *gemm* *matmul* *_mm *_mm_* *_addmm "
        "*_linear",
        tensorflow="Einsum XlaEinsum XlaDot RiscDot UniformQuantizedDot* *MatMul*",
        xla="dot dot_general ragged-dot* gemm *cublas$* *cublas$lt* *_matmul *matmul* onednn$matmul* __onednn$matmul*",
        kernel="*gemm* *Gemm* *GEMM* Cijk_* *gemv* *Gemv* *splitKreduce* *matmul* *cublasLt* cublas* fc-dtype* "
        "*dot_kernel* *nvjet*",
    ),
    OpClass(
        "rnn",
        "recurrent cells and layers computed by one operator",
        torch="gru quantized_gru *lstm* *gru_cell* *_rnn *_rnn_* rnn_*",
        tensorflow="CudnnRNN* BlockLSTM* LSTMBlockCell* GRUBlockCell*",
        kernel="*LSTM* *lstm* *GRU_* *gru_cell* *rnn_*",
    ),
    OpClass(
        "norm",
        "normalization of activations and weights; the norm of a vector is `reduce`",
        torch="layer_norm group_norm batch_norm rms_norm native_layer_norm native_group_norm native_batch_norm renorm "
        "weight_norm* *batch_norm* *layer_norm* *group_norm* *instance_norm* *rms_norm* *rmsnorm* *layernorm* "
        "*groupnorm* *qk_norm* local_response_norm",
        tensorflow="LRN LRNGrad *BatchNorm* *LayerNorm* *InstanceNorm*",
        xla="batch-norm-* *layer_norm* *rms_norm* *cudnn$norm*",
        kernel="*batch_norm* *BatchNorm* *batchnorm* *layer_norm* *LayerNorm* *layernorm* *group_norm* *GroupNorm* "
        "*groupnorm* *rms_norm* *RMSNorm* *rmsnorm* *Rmsnorm* *RmsNorm* *::bn_fw* *::bn_bw* *RowwiseMoments* "
        "*GammaBeta* *ComputeFusedParams* *ComputeInternalGradients* *ComputeBackwardFusedParams* *qk_norm*",
        keras="batch_normalization layer_normalization group_normalization rms_normalization unit_normalization "
        "normalization spectral_normalization",
    ),
    OpClass(
        "pool",
        "pooling over windows or regions",
        torch="max_pool2d max_pool3d avg_pool2d avg_pool3d adaptive_avg_pool2d *max_pool* *avg_pool* max_unpool* "
        "*roi_pool* *roi_align*",
        tensorflow="MaxPool* AvgPool* QuantizedMaxPool* QuantizedAvgPool* FractionalMaxPool* FractionalAvgPool*",
        xla="reduce-window select-and-scatter reduce_window* select_and_scatter*",
        kernel="*max_pool* *avg_pool* *MaxPool* *AvgPool* *pooling* *roi_align* *average_pool*",
    ),
    OpClass(
        "embedding",
        "lookups in embedding tables and their gradients",
        torch="embedding embedding* *embedding_bag* split_embedding* dense_embedding* *lookup_function*",
        tensorflow="*TPUEmbedding* XlaSparseDenseMatmul*",
        kernel="*embedding_bag* *EmbeddingBag* *embedding_codegen* *embedding_backward* *embedding_forward* "
        "*indexSelectLargeIndex* split_eb_*",
        keras="embedding",
    ),
    OpClass(
        "loss",
        "losses; a softmax computed together with the loss belongs to it",
        torch="kl_div bce_with_logits nll_loss mse_loss l1_loss smooth_l1_loss cross_entropy_loss "
        "binary_cross_entropy nll_loss* *_loss *_loss_* *cross_entropy*",
        tensorflow="SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits CTCLoss L2Loss",
        kernel="*nll_loss* *NLLLoss* *cross_entropy* *mse_kernel* *mse_backward* *_loss_* *loss_kernel* "
        "*NLLCriterion*",
        keras="compile_loss sparse_categorical_crossentropy categorical_crossentropy binary_crossentropy "
        "categorical_focal_crossentropy binary_focal_crossentropy mean_squared_error mean_absolute_error "
        "mean_squared_logarithmic_error mean_absolute_percentage_error huber_loss huber log_cosh kl_divergence "
        "kullback_leibler_divergence hinge squared_hinge categorical_hinge poisson cosine_similarity ctc dice tversky",
    ),
    OpClass(
        "softmax",
        "softmax and log-softmax by themselves",
        torch="softmax log_softmax *softmax*",
        tensorflow="Softmax LogSoftmax SparseSoftmax SparseMatrixSoftmax*",
        kernel="*softmax* *SoftMax* *Softmax*",
    ),
    OpClass(
        "dropout",
        "dropout: drawing the mask and applying it",
        torch="masked_scale dropout native_dropout *dropout*",
        kernel="*dropout* *Dropout*",
        keras="dropout spatial_dropout1d spatial_dropout2d spatial_dropout3d gaussian_dropout alpha_dropout",
    ),
    OpClass(
        "random",
        "random numbers",
        torch="rand rand_like randn randn_like randint randint_like randperm normal normal_functional uniform "
        "bernoulli random exponential cauchy geometric log_normal multinomial poisson binomial standard_gamma "
        "sample_dirichlet philox_*",
        tensorflow="Random* StatelessRandom* StatefulRandom* StatefulUniform* StatefulStandardNormal* "
        "StatefulTruncatedNormal StatelessTruncatedNormal StatelessParameterizedTruncatedNormal StatelessMultinomial "
        "StatelessShuffle Multinomial ParameterizedTruncatedNormal TruncatedNormal Rng* NonDeterministicInts "
        "SobolSample XlaRngBitGenerator",
        xla="rng rng-bit-generator rng-get-and-update-state threefry2x32* random_bits",
        kernel="*distribution_* *rng_state* *curand* *hiprand* *philox* *randperm*",
    ),
    OpClass(
        "resample",
        "images and feature maps brought to another size or grid",
        torch="upsample_nearest2d upsample_bilinear2d upsample_* grid_sampler* affine_grid_generator* "
        "cudnn_grid_sampler* cudnn_affine_grid_generator*",
        tensorflow="Resize* ResizeBilinearGrad CropAndResize* ScaleAndTranslate* ImageProjectiveTransform*",
        kernel="*upsample* *grid_sampler*",
    ),
    OpClass(
        "linalg",
        "decompositions, solvers and Fourier transforms",
        torch="linalg_cholesky* linalg_solve* linalg_eig* linalg_svd* linalg_qr linalg_inv* linalg_lu* linalg_ldl* "
        "linalg_lstsq linalg_det linalg_slogdet linalg_pinv linalg_matrix_exp linalg_matrix_power matrix_exp svd qr "
        "geqrf orgqr ormqr cholesky* lu_solve lu_with_info triangular_solve det slogdet logdet inverse pinverse fft_* "
        "stft istft",
        tensorflow="Cholesky* Svd Qr Lu Eig SelfAdjointEig XlaSelfAdjointEig XlaSvd MatrixInverse MatrixSolve* "
        "MatrixTriangularSolve MatrixDeterminant LogMatrixDeterminant MatrixExponential MatrixLogarithm "
        "MatrixSquareRoot TridiagonalSolve BandedTriangularSolve FFT* IFFT* RFFT* IRFFT*",
        xla="cholesky triangular-solve fft",
        kernel="*cusolver* *getrf* *potrf* *regular_fft* *vector_fft* *rocfft* *fft2d_*",
    ),
    OpClass(
        "reduce",
        "sums, means, extremes and norms over dimensions, their positions, and running sums",
        torch="sum mean prod max min amax amin aminmax argmax argmin any all std var std_mean var_mean cumsum cumprod "
        "cummax cummin logcumsumexp logsumexp nansum nanmean median nanmedian quantile nanquantile mode count_nonzero "
        "trace dist norm frobenius_norm nuclear_norm native_norm norm_except_dim linalg_norm linalg_vector_norm "
        "linalg_matrix_norm foreach_norm foreach_max foreach_powsum allclose equal is_all_true is_any_true "
        "sum_to_size grad_sum_to_size histc bincount histogram segment_reduce sparse_sum cummaxmin cummax_helper "
        "cummin_helper value_selecting_reduction asynchronous_complete_cumsum reduce_sum vector_norm_float_order",
        tensorflow="Sum Mean Prod Max Min All Any ArgMax ArgMin EuclideanNorm BiasAddGrad Cumsum Cumprod "
        "CumulativeLogsumexp Bincount DenseBincount HistogramFixedWidth SparseReduceSum SparseReduceMax Segment* "
        "UnsortedSegment* SparseSegment* XlaReduce XlaVariadicReduce",
        xla="reduce reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or argmax argmin cumsum",
        kernel="*reduce_kernel* *RowReduce* *ColumnReduce* *DeviceReduce* *DeviceScan* *LpNormFunctor* *reduce_sum* "
        "*LpNormCleanup* *bitmatrix_rows* vector_norm_* *scan_innermost_dim* *scan_outer_dim* *cumsum*",
    ),
    OpClass(
        "index",
        "reading and writing by position, sorting, searching: gather, scatter, slices that move data, top-k",
        torch="index index_select index_put index_put_impl index_add index_copy index_fill index_reduce unsafe_index "
        "unsafe_index_put gather scatter scatter_add scatter_reduce masked_select masked_scatter take take_along_dim "
        "put nonzero nonzero_static argwhere topk sort argsort msort kthvalue searchsorted bucketize one_hot unique "
        "unique2 unique_dim unique_consecutive isin nms select_scatter slice_scatter diagonal_scatter "
        "as_strided_scatter select_backward slice_backward diagonal_backward unfold_backward fast_gather "
        "permute_2d_sparse_data permute_sparse_features permute_pooled_embs* permute_multi_embedding* "
        "recat_embedding_grad_output* offsets_range bounds_check_indices reshape_and_cache* store_cache *kv_cache* "
        "set_kv_buffer* top_k",
        tensorflow="Gather GatherNd ResourceGather ResourceGatherNd Scatter* TensorScatter* ResourceScatter* Slice "
        "StridedSlice StridedSliceGrad StridedSliceAssign ResourceStridedSliceAssign TensorStridedSliceUpdate Where "
        "TopK TopKUnique ApproxTopK InTopK NthElement OneHot Unique UniqueWithCounts DynamicPartition DynamicStitch "
        "ParallelDynamicStitch InvertPermutation SearchSorted LowerBound UpperBound Bucketize LookupTable* "
        "NonMaxSuppression* CombinedNonMaxSuppression SparseToDense ListDiff Sort ReverseSequence XlaGather "
        "XlaScatter XlaDynamicSlice XlaDynamicUpdateSlice XlaSort XlaKeyValueSort XlaVariadicSort TensorListGather "
        "TensorListScatter* TensorListGetItem TensorListSetItem MatrixSetDiag MatrixDiag MatrixDiagPart",
        xla="gather scatter slice dynamic-slice dynamic-update-slice sort topk top_k dynamic_slice "
        "dynamic_update_slice partition-topk*",
        kernel="*gather* *Gather* *scatter* *Scatter* *index_kernel* *index_elementwise* *index_put* *indexSelect* "
        "*indexFunc* *linearize_index* *indexing_backward* *searchsorted* *RadixSort* *radix_sort* *MergeSort* "
        "*DeviceSelect* *topk* *TopK* *bitonicSort* *store_kvcache* *reshape_and_cache* *compute_cuda_kernel* "
        "*permute_2D_data* *permute_pooled_embs* *bounds_check_indices* *offsets_range* *write_indices* "
        "*DeviceSegmentedSort* *DeviceRunLength* *DeviceHistogram* *DeviceUnique*",
    ),
    OpClass(
        "copy",
        "data moved or rewritten: copies, casts, quantization, concatenation, padding, transposition in memory",
        torch="copy copy_from copy_to to to_copy to_cpu clone contiguous pin_memory cat concat concatenate stack "
        "hstack vstack dstack column_stack row_stack block_diag pad constant_pad_nd *_pad1d *_pad2d *_pad3d "
        "pad_circular pad_sequence pack_padded_sequence pad_packed_sequence repeat repeat_interleave tile roll flip "
        "fliplr flipud rot90 type_as convert_element_type cast_* device_put to_dense to_mkldnn to_sparse* quantize_* "
        "dequantize *_to_padded_dense* padded_dense_to_* flatten_dense_tensors copy_bucket_to_grad pixel_shuffle "
        "pixel_unshuffle channel_shuffle native_channel_shuffle mkldnn_reorder_conv2d_weight "
        "mkldnn_reorder_conv3d_weight cudnn_rnn_flatten_weight fbgemm_linear_quantize_weight "
        "fbgemm_pack_gemm_matrix_fp16 fbgemm_pack_quantized_matrix convert_weight_to_int4pack *_copy float_to_* "
        "*_quantized_to_float lengths_range_w_truncation_size sparse_label_to_dense to_dense_representation "
        "autocast_to_* chunk_cat",
        tensorflow="Cast HostCast Copy CopyHost DeepCopy CopyOp Concat ConcatV2 ParallelConcat* Pack Pad PadV2 "
        "MirrorPad MirrorPadGrad Tile TileGrad Transpose ConjugateTranspose Reverse Roll Split SplitV Unpack "
        "BroadcastTo Snapshot AssignVariableOp Assign QuantizedConcat* Quantize QuantizeV2 QuantizeAndDequantize* "
        "Dequantize Requantize* FakeQuant* UniformQuantize UniformDequantize SpaceToBatch* BatchToSpace* SpaceToDepth "
        "DepthToSpace TensorListFromTensor TensorListStack TensorListConcat* TensorListSplit TensorListPushBack "
        "TensorListPopBack TensorArray* Send Recv XlaPad Save* Restore* MergeV2Checkpoints",
        xla="copy convert copy-start copy-done transpose concatenate pad reverse broadcast broadcast_in_dim "
        "reduce-precision stochastic-convert infeed outfeed async-start async-done convert_element_type",
        kernel="*copy* *Copy* *nchwToNhwc* *nhwcToNchw* *NCHWToNHWC* *convertTensor* *transpose* *Transpose* "
        "*permute* *CatArray* *_cat_* *memcpy* *pad_kernel* *quant_kernel* *quantize* *repeat_interleave* *flip_* "
        "*roll_cuda* dma_request *cast_kernel* *castTensor* *SubTensorOpWithCastTensor*",
    ),
    OpClass(
        "create",
        "new tensors, and memory filled with constants",
        torch="empty* zeros zeros_like ones ones_like full full_like arange range eye linspace logspace scalar_tensor "
        "lift lift_fresh new_* fill fill_diagonal zero tril_indices triu_indices iota *_window resize resize_as set "
        "efficientzerotensor sparse_coo_tensor* sparse_csr_tensor*",
        tensorflow="Fill Zeros ZerosLike OnesLike Empty Range LinSpace Const HostConst EagerConst ImmutableConst "
        "EmptyTensorList TensorListReserve VarHandleOp VarHandlesOp VariableV2 Eye",
        xla="constant iota rng-state allocate",
        kernel="*FillFunctor* *memset* *Memset* *arange* *linspace* *eye_kernel*",
    ),
    OpClass(
        "view",
        "the same memory under another shape, name or description; no data moves",
        torch="view view_as view_as_real view_as_complex view_of reshape reshape_as reshape_alias unsafe_view "
        "as_strided transpose t adjoint numpy_t m_t m_h permute movedim moveaxis swapaxes swapdims expand expand_as "
        "broadcast_to broadcast_in_dim broadcast_tensors meshgrid squeeze unsqueeze flatten ravel unflatten "
        "unflatten_dense_tensors slice select narrow chunk unsafe_chunk split split_with_sizes unsafe_split "
        "unsafe_split_with_sizes tensor_split hsplit vsplit unbind detach alias unfold diagonal real imag "
        "resolve_conj resolve_neg conj neg_view nested_view_* mkldnn_reshape weak_ref_tensor values indices "
        "crow_indices col_indices result_type promote_types can_cast is_pinned is_same_size is_floating_point "
        "is_complex is_contiguous is_conj is_neg has_compatible_shallow_copy_type has_same_storage_numel size stride "
        "dim numel sym_size sym_stride sym_numel sym_storage_offset storage_offset shape_as_tensor get_device "
        "requires_grad",
        tensorflow="Reshape Squeeze ExpandDims Identity IdentityN Bitcast Shape ShapeN Size Rank StopGradient "
        "PreventGradient EnsureShape ReadVariableOp ReadVariablesOp VariableShape BroadcastGradientArgs BroadcastArgs "
        "ConcatOffset TensorListLength TensorListElementShape IsVariableInitialized VarIsInitializedOp "
        "XlaOptimizationBarrier XlaSharding",
        xla="bitcast reshape tuple get-tuple-element parameter bitcast-convert optimization-barrier "
        "get-dimension-size add-dependency after-all squeeze",
    ),
    OpClass(
        "input",
        "the input pipeline where it runs as operators: reading, decoding and handing over batches",
        torch="decode_jpeg* decode_png decode_image decode_webp decode_gif read_file",
        tensorflow="Iterator* MultiDeviceIterator* MakeIterator OneShotIterator AnonymousIterator* DeleteIterator "
        "Optional* RandomDataset RandomDatasetV2 SaveDataset SaveDatasetV2 *Dataset *DatasetV2 *DatasetV3 *DatasetV4 "
        "Decode* ParseExample ParseSingleExample ParseSequenceExample ParseSingleSequenceExample ParseTensor ReadFile "
        "MatchingFiles Queue* Reader*",
    ),
    OpClass(
        "sync",
        "the host waits for the device or reads a value from it",
        torch="item local_scalar_dense is_nonzero",
        tensorflow="SyncDevice",
        kernel="event_wait spin_kernel *::spin_kernel*",
    ),
    OpClass(
        "control",
        "calls, loops, branches and bookkeeping: what the framework adds around the operators inside",
        torch="accumulate_grad graph_root TorchDynamo* Pregraph* AOTDispatcher*",
        tensorflow="PartitionedCall StatefulPartitionedCall TPUPartitionedCall RemoteCall SymbolicGradient If "
        "StatelessIf While StatelessWhile Case StatelessCase For MapDefun Switch SwitchN Merge Enter Exit "
        "NextIteration LoopCond NoOp ControlTrigger Assert Print PrintV2 PyFunc PyFuncStateless EagerPyFunc Arg "
        "Retval DeviceArg DeviceRetval BatchFunction XlaCallModule XlaWhile XlaIf",
        xla="call while conditional custom-call domain partition-id replica-id",
    ),
    OpClass(
        "fusion",
        "compiled code that does the work of several classes, or whose name does not say which",
        torch="Torch-Compiled* compiled_function *CompiledFxGraph* differentiable_graph",
        tensorflow="XlaLaunch XlaRun XlaCompile UnaryOpsComposition TPUExecute TPUExecuteAndUpdateVariables",
    ),
    OpClass(
        "elementwise",
        "arithmetic, comparisons, activations and selection, element by element",
        torch="add add_relu sub subtract rsub mul multiply div divide true_divide floor_divide remainder fmod pow "
        "float_power sqrt rsqrt exp exp2 expm1 log log2 log10 log1p abs absolute neg negative positive sign sgn "
        "signbit reciprocal square ceil floor round trunc frac fix nan_to_num isnan isinf isfinite isclose deg2rad "
        "rad2deg sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh sinc erf erfc erfinv lgamma "
        "digamma hypot xlogy logaddexp logaddexp2 lerp addcmul addcdiv clamp clamp_min clamp_max clip threshold "
        "maximum minimum fmax fmin eq ne lt le gt ge equal_to not_equal less less_equal greater greater_equal "
        "logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor "
        "bitwise_left_shift bitwise_right_shift and or xor iand ior ixor lshift rshift where s_where masked_fill tril "
        "triu complex angle conj_physical polar relu relu6 leaky_relu rrelu rrelu_with_noise prelu prelu_kernel elu "
        "celu selu gelu silu mish sigmoid hardsigmoid hardswish hardtanh hardshrink softshrink softplus log_sigmoid "
        "logit glu silu_and_mul gelu_and_mul *rotary* diff cross scale_gradient",
        tensorflow="Add AddN Sub Mul MulNoNan Div DivNoNan RealDiv FloorDiv TruncateDiv Mod FloorMod TruncateMod Pow "
        "Square SquaredDifference Sqrt SqrtGrad Rsqrt RsqrtGrad Exp Expm1 Log Log1p Abs ComplexAbs Neg Sign Inv "
        "InvGrad Reciprocal ReciprocalGrad Ceil Floor Round Rint Sin Cos Tan Asin Acos Atan Atan2 Sinh Cosh Tanh "
        "TanhGrad Asinh Acosh Atanh Erf Erfc Erfinv Ndtri Lgamma Digamma Xdivy Xlogy Xlog1py Maximum Minimum "
        "ClipByValue Equal NotEqual Less LessEqual Greater GreaterEqual ApproximateEqual LogicalAnd LogicalOr "
        "LogicalNot BitwiseAnd BitwiseOr BitwiseXor Invert LeftShift RightShift IsNan IsInf IsFinite Select BiasAdd "
        "BiasAddV1 Relu ReluGrad Relu6 Relu6Grad LeakyRelu LeakyReluGrad Elu EluGrad Selu SeluGrad Softplus "
        "SoftplusGrad Softsign SoftsignGrad Sigmoid SigmoidGrad Swish Mish Gelu GeluGrad AccumulateNV2 AssignAdd "
        "AssignSub AssignAddVariableOp AssignSubVariableOp InplaceAdd InplaceSub Real Imag Complex Conj Angle "
        "MatrixBandPart CheckNumerics",
        xla="add subtract multiply divide remainder power maximum minimum abs negate sign sqrt rsqrt cbrt exponential "
        "exponential-minus-one log log-plus-one tanh tan sine cosine atan2 erf logistic floor ceil round-nearest-even "
        "round-nearest-afz compare select clamp and or xor not shift-left shift-right-arithmetic shift-right-logical "
        "is-finite popcnt count-leading-zeros real imag complex map sub mul div neg max min exp log1p expm1 pow "
        "square integer_pow select_n eq ne lt le gt ge relu gelu silu add_any clz",
        kernel="*elementwise_kernel* *elementwiseKernel* *multi_tensor_apply_kernel* *act_and_mul* "
        "*activation_kernel* *scalePackedTensor* *add_kernel* *mul_kernel* *rotary* *OpTensor* *TensorOp* "
        "*launch_clamp_scalar* *threshold_kernel* *_silu_* *_gelu_*",
    ),
)  # fmt: skip

NAMES = tuple(row.name for row in TABLE)

# What a scope says of an operator counts only where the operator itself could be part of anything.
PARTS = frozenset(("elementwise", "reduce", "index", "copy", "create", "view", "random"))
# What remains itself inside an optimizer.
NOT_THE_OPTIMIZERS = frozenset(("communication", "sync", "input"))
# Operators that say nothing about the kernels they launch.
NOT_THE_KERNELS = frozenset(("communication", "sync", "input", "control", "fusion", "view"))

_Test = Callable[[str, str], bool]


class Column:
    """The words of one column, ready to look names up."""

    def __init__(self, cells: Iterable[tuple[str, str]]) -> None:
        """`cells`: classes and their words, in the order of precedence."""
        self.whole: dict[str, str] = {}
        self._parts: list[tuple[_Test, str, str]] = []
        for op_class, words in cells:
            for word in words.split():
                if "*" in word:
                    self._parts.append((*_test(word), op_class))
                elif self.whole.setdefault(word, op_class) != op_class:
                    raise ValueError(f"{word!r} stands in two classes: {self.whole[word]}, {op_class}")

    def by_part(self, name: str) -> str | None:
        """The first class one of whose words with a star fits."""
        for test, text, op_class in self._parts:
            if test(name, text):
                return op_class
        return None

    def look_up(self, names: Iterable[str]) -> str | None:
        """The class of the first of these forms of a name that is a whole word; else of the first that has a part."""
        forms = tuple(names)
        for form in forms:
            if form in self.whole:
                return self.whole[form]
        return next((found for form in forms if (found := self.by_part(form))), None)


def _test(word: str) -> tuple[_Test, str]:
    """How to find a word with a star in a name; plain searching, since kernels' names run to hundreds of letters."""
    text = word.strip("*")
    if word.startswith("*"):
        return (operator.contains if word.endswith("*") else str.endswith), text
    return str.startswith, text


_TORCH = Column((row.name, row.torch) for row in TABLE)
_TENSORFLOW = Column((row.name, row.tensorflow) for row in TABLE)
_XLA = Column((row.name, row.xla) for row in TABLE)
_KERNEL = Column((row.name, row.kernel) for row in TABLE)
_KERAS = {scope: row.name for row in TABLE for scope in row.keras.split()}


def torch_class(name: str) -> str | None:
    """The class of an operator or autograd node of PyTorch. `aten::conv2d`, `ConvolutionBackward0` -> conv."""
    if fused := _INDUCTOR.match(name):
        return _fused_by_inductor(fused["sort"], name[fused.end() :])
    return _TORCH.look_up(_torch_forms(name))


_ENGINE = "autograd::engine::evaluate_function: "
_CPP_NODE = re.compile(r"torch::autograd::CppNode<([^<>]+)")
# Names whose first part says what they are; also the ranges of PyTorch's own among those of the program.
TORCH_RANGES = (
    *("Optimizer.", "nccl:", "gloo:", "mpi:"),
    *("c10d::", "c10d_functional::", "_c10d_functional::", "symm_mem::"),
)
_SNAKE = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9])(?=[A-Z][a-z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NODE = re.compile(r"Backward\d*$")
_VARIANT = re.compile(r"(_backward|_forward|_backward_data|_out|_impl)$")


def _torch_forms(name: str) -> Iterator[str]:
    """The name as the table may have it: `aten::_foreach_add_` -> foreach_add, add."""
    if name.startswith(TORCH_RANGES):
        yield name
        return
    name = name.removeprefix(_ENGINE)
    if node := _CPP_NODE.match(name):
        name = node[1]
    name = name.rpartition("::")[2]
    if " " in name:  # a region of compiled code
        yield name
        return
    name = _NODE.sub("", name.partition(".")[0].partition("-dtype")[0])
    snake = _SNAKE.sub("_", name).replace("__", "_").strip("_").lower()
    plain = _VARIANT.sub("", snake)
    yield from (snake, plain, plain.removeprefix("foreach_"))


def tensorflow_class(op_type: str) -> str | None:
    """The class of TensorFlow's type of operator. `_MklNativeFusedConv2D`, `Conv2DBackpropInput` -> conv."""
    return _TENSORFLOW.look_up((op_type, _VERSION.sub("", _LIBRARY.sub("", op_type))))


_LIBRARY = re.compile(r"^_+(Mkl|ITEX)?(Native)?(Fused)?(?=[A-Z])")  # for which the graph was rewritten
_VERSION = re.compile(r"V\d+$")


def xla_class(name: str) -> str | None:
    """The class of an HLO instruction by its name. `dot.3` -> matmul; `loop_add_fusion.2` -> elementwise."""
    bare = _NUMBER.sub("", name)
    if found := _XLA.look_up((bare, bare.replace("_", "-"))):
        return found
    if _XLA_FUSION.match(bare):
        return _fused_by_xla(bare)
    return tensorflow_class(bare) if bare[:1].isupper() else None  # compiled TensorFlow keeps the name of an operator


_NUMBER = re.compile(r"(\.kd|\.clone|\.remat\d*|[._]\d+)+$")
_FUSION_WORDS = re.compile(r"(^|_)(fusion|loop|input|wrapped|kernel|horizontal|triton|nested)(?=_|$)")


def _fused_by_xla(name: str) -> str:
    """XLA names a fusion after its main instructions: `input_reduce_fusion`, `broadcast_multiply_fusion`."""
    words = _FUSION_WORDS.sub("", name).strip("_").split("_")
    return _of_fused({_XLA.whole[word] for word in _segmented(words, _XLA.whole)}) or "fusion"


def kernel_class(name: str) -> str | None:
    """The class of a device kernel by its own name: of a library, of the framework, of a compiler."""
    name = name.replace("fbgemm", "fb")  # a library for embeddings, whose name holds that of a product
    if fused := _INDUCTOR.match(name):
        return _fused_by_inductor(fused["sort"], name[fused.end() :])
    if _XLA_FUSION.match(name):
        return xla_class(name)
    if "-dtype_" in name:  # MTIA names its kernels after operators
        return _KERNEL.by_part(name) or torch_class(name)
    return _KERNEL.look_up((name,)) or xla_class(name)


_XLA_FUSION = re.compile(r"(wrapped_[a-z]|[a-z0-9_-]*fusion)[\w.-]*$")
_INDUCTOR = re.compile(r"(triton_(?P<sort>[a-z]+)|cpp)_fused_")
_OUTSIDE = frozenset(("matmul", "conv", "attention", "rnn"))  # generated loops finish these and never compute them


def _fused_by_inductor(sort: str | None, operators: str) -> str | None:
    """torch.compile names a kernel after its sort and the operators it fuses: `triton_poi_fused_add_relu_3`.

    poi is pointwise, red and per reduce, tem is a template: a product, a convolution or an attention; on the CPU there
    are no sorts.
    """
    words = [word for word in operators.split("_") if word and not word.isdigit()]
    classes = {_TORCH.whole[word] for word in _segmented(words, _TORCH.whole)}
    if sort == "tem":
        return next((c for c in ("attention", "conv", "matmul") if c in classes), None)
    found = _of_fused(classes - _OUTSIDE)
    if sort in ("red", "per"):
        return found if found and found not in ("elementwise", "copy", "create") else "reduce"
    return found or ("elementwise" if sort == "poi" else "fusion")


def _segmented(words: list[str], known: dict[str, str]) -> Iterator[str]:
    """The whole names in a chain of words, the longest first: native layer norm add -> native_layer_norm, add."""
    at = 0
    while at < len(words):
        ends = range(min(len(words), at + 6), at, -1)
        found = next(((end, name) for end in ends for name in _joined(words[at:end]) if name in known), None)
        if found:
            yield found[1]
        at = found[0] if found else at + 1


def _joined(words: list[str]) -> tuple[str, str]:
    """PyTorch's and HLO's spelling of a name of several words."""
    return "_".join(words), "-".join(words)


# What goes along with anything, the weightiest first; fused views alone are written out, so that they are a copy.
_MINOR = {"elementwise": "elementwise", "copy": "copy", "create": "create", "view": "copy"}


def _of_fused(classes: set[str]) -> str | None:
    """The class of a kernel that fuses these: the one that is not minor; of several, none in particular."""
    major = classes.difference(_MINOR)
    if major:
        return major.pop() if len(major) == 1 else "fusion"
    return next((alone for minor, alone in _MINOR.items() if minor in classes), None)


@dataclass(frozen=True, slots=True)
class ScopeFacts:
    """What the scope of a TensorFlow operator proves of it."""

    op_class: str | None  # of the layer, the loss or the optimizer around it
    is_backward: bool


def scope_facts(scope: str) -> ScopeFacts:
    """What `<scope>/<operator>` proves, by the names that Keras gives its parts and TensorFlow its gradients.

    `StatefulPartitionedCall/adam/mul_3` -> optimizer;
    `gradient_tape/functional_1/layer_normalization_2/Neg` -> norm, backward. The outermost named part decides.
    """
    parts = scope.split("/")[:-1]
    named = (_KERAS.get(_SCOPE_NUMBER.sub("", part)) for part in parts)
    return ScopeFacts(next((op_class for op_class in named if op_class), None), "gradient_tape" in parts)


_SCOPE_NUMBER = re.compile(r"(_\d+)+$")


_INTRODUCTION = """\
# Operator classes

Each operator has one class, whatever framework ran it, so that two frameworks can be compared. What has none is shown
as *no class*, with its share of the time. This page is made from the table the code reads:
`python -m profkit.trace.opclasses`.

In the lists, `mm` is a whole name, `conv2d*` a beginning, `*_mm` an end and `*attention*` a part of one. A whole name
counts for more than any with a star; of these, the class listed first decides. Before a name is looked up it loses
what says nothing about its class: PyTorch's namespace, leading and trailing underscores, `foreach_` and `_backward`,
and a node of autograd is written like its operator (`ConvolutionBackward0` is `convolution`); TensorFlow's version and
library (`_MklNativeFusedConv2D` is `Conv2D`); XLA's numbers.

- **Fused kernels** of XLA and torch.compile carry the names of what they fuse. They have the class of these, leaving
  arithmetic, copies and views aside where there is anything else; of several others, `fusion`.
- **Kernels** have the class of the innermost operator around the call that launched them, since an inner product may
  be a convolution's; where that says nothing, their own name's.
- **The optimizer** is whatever operator runs inside it: in PyTorch inside the range `Optimizer.step`, in TensorFlow
  under a scope with the name of one of Keras's optimizers. Communication and waits inside it remain what they are.
- **Layers that Keras builds of arithmetic** (normalization, dropout, embedding, losses) give it their class by their
  scope. A product or a convolution inside a layer remains what it is.
"""


def document() -> str:
    """The table in Markdown, as docs/operators.md has it."""
    columns = {
        "PyTorch": "torch",
        "TensorFlow": "tensorflow",
        "XLA and JAX": "xla",
        "Keras, parts of a scope": "keras",
        "Device kernels": "kernel",
    }
    meanings = [f"| `{row.name}` | {row.meaning} |" for row in TABLE]
    parts = [_INTRODUCTION, "\n".join(("| class | what it is |", "|---|---|", *meanings))]
    for title, column in columns.items():
        lines = [f"| `{row.name}` | {_code(words)} |" for row in TABLE if (words := getattr(row, column))]
        parts.append("\n".join((f"## {title}", "", "| class | names |", "|---|---|", *lines)))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _code(words: str) -> str:
    return " ".join(f"`{word}`" for word in words.split())


if __name__ == "__main__":
    print(document(), end="")
