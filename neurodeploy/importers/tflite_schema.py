"""The parts of TFLite's schema that the importer reads: numbers of operators and types, fields of tables.

Schema: tensorflow/tflite-micro, ``tensorflow/compiler/mlir/lite/schema/schema.fbs``. A flatbuffer's field numbers never
change, so files of other versions of the schema are read with the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: A field of a table: its number, its kind (as :meth:`~neurodeploy.importers.tflite_flat.Table.get` knows it), and what
#: stands for it where it is absent.
Field = tuple[int, str, object]

_OPERATORS = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION
LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH
CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM
ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE
EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR
ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE
RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND
COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE
HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE
BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1
UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR
RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE
STABLEHLO_CLAMP STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL
STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER
STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE
STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA
STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE
DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT
STABLEHLO_CASE
"""

_TENSOR_TYPES = """
FLOAT32 FLOAT16 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT64 COMPLEX128 UINT64 RESOURCE VARIANT UINT32
UINT16 INT4 BFLOAT16 INT2 UINT4 FLOAT8_E4M3FN FLOAT8_E5M2
"""

#: Names of the builtin operators and of element types by number.
OPERATORS = tuple(_OPERATORS.split())
TENSOR_TYPES = tuple(_TENSOR_TYPES.split())
#: Fused activations by number.
ACTIVATIONS: tuple[str, ...] = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")

_ACT = "fused_activation_function"
_WINDOW: Mapping[str, Field] = {"padding": (0, "i8", 0), "stride_w": (1, "i32", 0), "stride_h": (2, "i32", 0)}
#: Operator -> the fields of its options that are read.
OPTIONS: Mapping[str, Mapping[str, Field]] = {
    "CONV_2D": {
        **_WINDOW,
        _ACT: (3, "i8", 0),
        "dilation_w_factor": (4, "i32", 1),
        "dilation_h_factor": (5, "i32", 1),
        "quantized_bias_type": (6, "i8", 0),
    },
    "DEPTHWISE_CONV_2D": {
        **_WINDOW,
        "depth_multiplier": (3, "i32", 0),
        _ACT: (4, "i8", 0),
        "dilation_w_factor": (5, "i32", 1),
        "dilation_h_factor": (6, "i32", 1),
    },
    "TRANSPOSE_CONV": {**_WINDOW, _ACT: (3, "i8", 0), "quantized_bias_type": (4, "i8", 0)},
    **dict.fromkeys(
        ("AVERAGE_POOL_2D", "MAX_POOL_2D"),
        {**_WINDOW, "filter_width": (3, "i32", 0), "filter_height": (4, "i32", 0), _ACT: (5, "i8", 0)},
    ),
    "SVDF": {"rank": (0, "i32", 0), _ACT: (1, "i8", 0), "asymmetric_quantize_inputs": (2, "bool", False)},
    "FULLY_CONNECTED": {
        _ACT: (0, "i8", 0),
        "weights_format": (1, "i8", 0),
        "keep_num_dims": (2, "bool", False),
        "quantized_bias_type": (4, "i8", 0),
    },
    "SOFTMAX": {"beta": (0, "f32", 0.0)},
    "CONCATENATION": {"axis": (0, "i32", 0), _ACT: (1, "i8", 0)},
    **dict.fromkeys(("ADD", "SUB"), {_ACT: (0, "i8", 0), "pot_scale_int16": (1, "bool", True)}),
    **dict.fromkeys(("MUL", "DIV"), {_ACT: (0, "i8", 0)}),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": {
        _ACT: (0, "i8", 0),
        "cell_clip": (1, "f32", 0.0),
        "proj_clip": (2, "f32", 0.0),
        "time_major": (3, "bool", False),
        "asymmetric_quantize_inputs": (4, "bool", False),
        "diagonal_recurrent_tensors": (5, "bool", False),
    },
    "RESHAPE": {"new_shape": (0, "[i32]", ())},
    "GATHER": {"axis": (0, "i32", 0), "batch_dims": (1, "i32", 0)},
    **dict.fromkeys(
        ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"),
        {"keep_dims": (0, "bool", False)},
    ),
    "SQUEEZE": {"squeeze_dims": (0, "[i32]", ())},
    **dict.fromkeys(("SPLIT", "SPLIT_V"), {"num_splits": (0, "i32", 0)}),
    "STRIDED_SLICE": {
        "begin_mask": (0, "i32", 0),
        "end_mask": (1, "i32", 0),
        "ellipsis_mask": (2, "i32", 0),
        "new_axis_mask": (3, "i32", 0),
        "shrink_axis_mask": (4, "i32", 0),
        "offset": (5, "bool", False),
    },
    "PACK": {"values_count": (0, "i32", 0), "axis": (1, "i32", 0)},
    "UNPACK": {"num": (0, "i32", 0), "axis": (1, "i32", 0)},
    "MIRROR_PAD": {"mode": (0, "i8", 0)},
    **dict.fromkeys(("SPACE_TO_DEPTH", "DEPTH_TO_SPACE"), {"block_size": (0, "i32", 0)}),
    "RESIZE_BILINEAR": {"align_corners": (2, "bool", False), "half_pixel_centers": (3, "bool", False)},
    "RESIZE_NEAREST_NEIGHBOR": {"align_corners": (0, "bool", False), "half_pixel_centers": (1, "bool", False)},
    "L2_NORMALIZATION": {_ACT: (0, "i8", 0)},
    "IF": {"then_subgraph_index": (0, "i32", 0), "else_subgraph_index": (1, "i32", 0)},
    "LEAKY_RELU": {"alpha": (0, "f32", 0.0)},
    "WHILE": {"cond_subgraph_index": (0, "i32", 0), "body_subgraph_index": (1, "i32", 0)},
    "CALL_ONCE": {"init_subgraph_index": (0, "i32", 0)},
    "BATCH_MATMUL": {"adj_x": (0, "bool", False), "adj_y": (1, "bool", False)},
    "VAR_HANDLE": {"container": (0, "string", ""), "shared_name": (1, "string", "")},
    "CUMSUM": {"exclusive": (0, "bool", False), "reverse": (1, "bool", False)},
}
#: What an operator without a table of options has in TFLite Micro where that isn't the schema's default.
WITHOUT_OPTIONS: Mapping[str, Mapping[str, Any]] = {"MIRROR_PAD": {"mode": 1}}

TENSOR: Mapping[str, Field] = {
    "shape": (0, "[i32]", ()),
    "type": (1, "i8", 0),
    "buffer": (2, "u32", 0),
    "name": (3, "string", ""),
    "quantization": (4, "table", None),
    "is_variable": (5, "bool", False),
    "sparsity": (6, "table", None),
    "shape_signature": (7, "[i32]", ()),
    "external_buffer": (10, "u32", 0),
}
#: ``details_type`` of scales by block.
BLOCKWISE = 2
QUANTIZATION: Mapping[str, Field] = {
    "scale": (2, "[f32]", ()),
    "zero_point": (3, "[i64]", ()),
    "details_type": (4, "i8", 0),
    "quantized_dimension": (6, "i32", 0),
}
BUFFER: Mapping[str, Field] = {"data": (0, "[u8]", ()), "offset": (1, "u64", 0), "size": (2, "u64", 0)}
OPERATOR: Mapping[str, Field] = {
    "opcode_index": (0, "u32", 0),
    "inputs": (1, "[i32]", ()),
    "outputs": (2, "[i32]", ()),
    "builtin_options": (4, "table", None),
    "intermediates": (8, "[i32]", ()),
}
OPERATOR_CODE: Mapping[str, Field] = {
    "deprecated_builtin_code": (0, "i8", 0),
    "custom_code": (1, "string", ""),
    "builtin_code": (3, "i32", 0),
}
SUBGRAPH: Mapping[str, Field] = {
    "tensors": (0, "[table]", ()),
    "inputs": (1, "[i32]", ()),
    "outputs": (2, "[i32]", ()),
    "operators": (3, "[table]", ()),
    "name": (4, "string", ""),
}
TENSOR_MAP: Mapping[str, Field] = {"name": (0, "string", ""), "tensor_index": (1, "u32", 0)}
SIGNATURE: Mapping[str, Field] = {
    "inputs": (0, "[table]", ()),
    "outputs": (1, "[table]", ()),
    "subgraph_index": (4, "u32", 0),
}
METADATA: Mapping[str, Field] = {"name": (0, "string", ""), "buffer": (1, "u32", 0)}
MODEL: Mapping[str, Field] = {
    "version": (0, "u32", 0),
    "operator_codes": (1, "[table]", ()),
    "subgraphs": (2, "[table]", ()),
    "description": (3, "string", ""),
    "buffers": (4, "[table]", ()),
    "metadata": (6, "[table]", ()),
    "signature_defs": (7, "[table]", ()),
}
