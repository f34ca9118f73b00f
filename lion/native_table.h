// For the Triton kernel: a table of the addresses of a group's tensors, by kind; see fused_cuda.py.

namespace {

constexpr uintptr_t ALIGNMENT = 16;  // bytes, of the widest loads

inline uintptr_t address(c10::TensorImpl* x) {
  return x == nullptr ? 0 : reinterpret_cast<uintptr_t>(x->data());
}

// Bits, as lion/kinds.py reads them: param is bfloat16; momentum is bfloat16; momentum is int8;
// compensated; parameter, momentum and residual are aligned; gradient is aligned.
inline int64_t kind_of(const Row& row) {
  using c10::ScalarType;
  const ScalarType param = row.param->dtype().toScalarType();
  const ScalarType momentum = row.momentum->dtype().toScalarType();
  const uintptr_t own = address(row.param) | address(row.momentum) | address(row.residual);
  return (param == ScalarType::BFloat16) | (momentum == ScalarType::BFloat16) << 1 |
      (momentum == ScalarType::Char) << 2 | (row.residual != nullptr) << 3 |
      (own % ALIGNMENT == 0) << 4 | (address(row.grad) % ALIGNMENT == 0) << 5;
}

}  // namespace

// Writes for each kind: its bits, the number k of its tensors, then k addresses each of parameters,
// gradients, momenta, scales and residuals, then k sizes. Tensors without elements are left out.
// `out` has room for 6 n + 128 numbers. Returns how many were written, or -1 if any tensor cannot
// be served. on_gpu: whether they must be on the GPU `device`, else on the CPU (for tests).
extern "C" __attribute__((visibility("default"))) int64_t lion_table(
    int64_t n, const uint64_t* handles, int on_gpu, int device, int64_t* out) {
  try {
    std::vector<uint8_t> left(n);
    const Place place = on_gpu ? on_cuda(device) : on_cpu();
    const Collected found = collect(n, handles, nullptr, place, BLOCK, left.data());
    if (std::count(left.begin(), left.end(), 1)) return -1;
    std::vector<std::vector<const Row*>> kinds(64);
    for (const Row& row : found.rows)
      if (row.param->numel()) kinds[kind_of(row)].push_back(&row);
    int64_t* at = out;
    for (size_t kind = 0; kind < kinds.size(); ++kind) {
      const auto& rows = kinds[kind];
      if (rows.empty()) continue;
      *at++ = kind, *at++ = rows.size();
      for (auto member : {&Row::param, &Row::grad, &Row::momentum, &Row::scale, &Row::residual})
        for (const Row* row : rows) *at++ = address(row->*member);
      for (const Row* row : rows) *at++ = row->param->numel();
    }
    for (const Row& row : found.rows) mark_changed(row);
    return at - out;
  } catch (...) {
    return -1;
  }
}
