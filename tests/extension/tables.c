/* Libraries of operators in plain C: a good one, and many that pynn must refuse. */
#include <pynn/abi.h>
#include <stdio.h>
#include <string.h>

static pynn_status scale(const pynn_call* call, const pynn_tensor* from, const pynn_tensor* to) {
  int64_t i, size = 1;
  int32_t axis;
  const double factor = call->attributes[0].real;
  for (axis = 0; axis < from->axes; ++axis) size *= from->shape[axis];
  for (i = 0; i < size; ++i) {
    if (call->dtype == PYNN_FLOAT64)
      ((double*)to->data)[i] = factor * ((const double*)from->data)[i];
    else
      ((float*)to->data)[i] = (float)factor * ((const float*)from->data)[i];
  }
  return PYNN_OK;
}

static pynn_status forward(const pynn_call* call) { return scale(call, &call->inputs[0], call->y); }

static pynn_status backward(const pynn_call* call) {
  return scale(call, call->dy, &call->gradients[0]);
}

static pynn_status fail(const pynn_call* call) {
  snprintf(call->message, PYNN_MESSAGE_BYTES, "no luck with %d arrays", (int)call->input_count);
  return PYNN_FAILURE;
}

static pynn_status fail_in_silence(const pynn_call* call) {
  (void)call;
  return 77;
}

static pynn_status endless_message(const pynn_call* call) {
  memset(call->message, 'x', PYNN_MESSAGE_BYTES);
  return PYNN_FAILURE;
}

static pynn_status many_axes(const pynn_call* call, int32_t* axes, int64_t* shape) {
  (void)call;
  (void)shape;
  *axes = 99;
  return PYNN_OK;
}

static pynn_status huge_shape(const pynn_call* call, int32_t* axes, int64_t* shape) {
  (void)call;
  *axes = 2;
  shape[0] = shape[1] = INT64_C(1) << 40;
  return PYNN_OK;
}

static pynn_status huge_workspace(const pynn_call* call, int32_t pass, int64_t* bytes) {
  (void)call;
  (void)pass;
  *bytes = -5;
  return PYNN_OK;
}

static pynn_status fail_in_latin_1(const pynn_call* call) {
  strcpy(call->message, "d\xe9j\xc3\xa0 vu \xe2\x82");
  return PYNN_VALUE_ERROR;
}

static pynn_input x = {sizeof x, "x", "any shape", 0};
static pynn_input again = {sizeof again, "x", "", 0};
static pynn_input weight = {sizeof weight, "w", "", PYNN_PARAMETER};
static pynn_input maybe = {sizeof maybe, "m", "", PYNN_OPTIONAL};
static pynn_attribute factor = {sizeof factor, "factor", "what x is multiplied by",
                                PYNN_REAL,     0,        {0, 2.0, NULL, NULL, 0}};
static pynn_attribute text = {sizeof text, "mode", "", PYNN_TEXT, 0, {0, 0, NULL, NULL, 0}};
static pynn_sample rows = {sizeof rows, "rows", "(3, 4)", "factor=0.5", NULL, PYNN_CASE};

static const pynn_input* inputs[4];
static const pynn_attribute* attributes[2];
static const pynn_sample* samples[1];
static pynn_operator op, other;
static const pynn_operator* operators[2];
static pynn_library library;

#define PYNN_IS(name) (strcmp(variant, name) == 0)

/* The tables, with the one thing changed that `variant` names. A table is used after the next has
 * been made, where this one was refused. */
PYNN_EXPORT const pynn_library* make_library(const char* variant) {
  memset(&op, 0, sizeof op);
  memset(&library, 0, sizeof library);
  x.name = "x", x.flags = 0, x.size = sizeof x;
  factor.type = PYNN_REAL, factor.name = "factor";
  rows.shapes = "(3, 4)", rows.attributes = "factor=0.5";
  text.default_value.text = NULL;
  inputs[0] = &x;
  attributes[0] = &factor;
  samples[0] = &rows;
  op.size = sizeof op;
  op.name = "scaled_in_c";
  op.doc = "factor x";
  op.flags = PYNN_PER_SAMPLE;
  op.input_count = op.attribute_count = op.sample_count = 1;
  op.inputs = inputs;
  op.attributes = attributes;
  op.samples = samples;
  op.forward = forward;
  op.backward = backward;
  operators[0] = &op;
  operators[1] = &other;
  library.abi_version = PYNN_ABI_VERSION;
  library.size = sizeof library;
  library.operator_count = 1;
  library.operators = operators;

  if (PYNN_IS("newer")) library.abi_version = PYNN_ABI_VERSION + 1, library.operators = NULL;
  if (PYNN_IS("no version")) library.abi_version = 0;
  if (PYNN_IS("no operators")) library.operator_count = 0;
  if (PYNN_IS("null operator")) operators[0] = NULL;
  if (PYNN_IS("error")) library.error = "it rains";
  if (PYNN_IS("short operator")) op.size = 8;
  if (PYNN_IS("no name")) op.name = NULL;
  if (PYNN_IS("name of spaces")) op.name = "a b";
  if (PYNN_IS("keyword")) op.name = "lambda";
  if (PYNN_IS("taken")) op.name = "relu";
  if (PYNN_IS("taken backward")) op.name = "conv2d";
  if (PYNN_IS("not a function but taken")) op.name = "register";
  if (PYNN_IS("twice")) other = op, library.operator_count = 2;
  if (PYNN_IS("no forward")) op.forward = NULL;
  if (PYNN_IS("no backward")) op.backward = NULL;
  if (PYNN_IS("no gradient needed")) op.backward = NULL, x.flags = PYNN_NO_GRADIENT;
  if (PYNN_IS("no inputs")) op.input_count = 0;
  if (PYNN_IS("no list of inputs")) op.inputs = NULL;
  if (PYNN_IS("short input")) x.size = 4;
  if (PYNN_IS("input without name")) x.name = "";
  if (PYNN_IS("argument of backward")) x.name = "dy";
  if (PYNN_IS("two of one name")) inputs[1] = &again, op.input_count = 2;
  if (PYNN_IS("attribute called as input")) factor.name = "x";
  if (PYNN_IS("optional before required"))
    inputs[1] = &maybe, inputs[2] = &weight, op.input_count = 3;
  if (PYNN_IS("first is a parameter")) x.flags = PYNN_PARAMETER;
  if (PYNN_IS("unknown flags")) op.flags = 1u << 20;
  if (PYNN_IS("unknown input flags")) x.flags = 1u << 20;
  if (PYNN_IS("unknown type")) factor.type = 17;
  if (PYNN_IS("no default")) attributes[0] = &text;
  if (PYNN_IS("default in latin 1")) attributes[0] = &text, text.default_value.text = "\xe9";
  if (PYNN_IS("name in latin 1")) op.name = "\xe9t\xe9";
  if (PYNN_IS("doc in latin 1")) op.doc = "l'\xe9t\xe9 \xc3\xa9t\xc3\xa9";
  if (PYNN_IS("pointwise with workspace")) op.flags = PYNN_POINTWISE, op.workspace = huge_workspace;
  if (PYNN_IS("pointwise with parameter"))
    op.flags = PYNN_POINTWISE, inputs[1] = &weight, op.input_count = 2;
  if (PYNN_IS("sample without shapes")) rows.shapes = NULL;

  if (PYNN_IS("fails")) op.forward = fail;
  if (PYNN_IS("fails backward")) op.backward = fail;
  if (PYNN_IS("fails in silence")) op.forward = fail_in_silence;
  if (PYNN_IS("fails in latin 1")) op.forward = fail_in_latin_1;
  if (PYNN_IS("endless message")) op.forward = endless_message;
  if (PYNN_IS("many axes")) op.shape = many_axes;
  if (PYNN_IS("huge shape")) op.shape = huge_shape;
  if (PYNN_IS("huge workspace")) op.workspace = huge_workspace;
  if (PYNN_IS("sample of nonsense")) rows.shapes = "3 by 4";
  if (PYNN_IS("sample of code")) rows.attributes = "factor=open('/etc/passwd')";
  if (PYNN_IS("too many shapes")) rows.shapes = "(3,), (4,)";
  return &library;
}
