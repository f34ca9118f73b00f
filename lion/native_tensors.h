// Which tensors the fused kernels can serve, on a CPU and on a GPU. Tensors come as addresses of
// their TensorImpl (`Tensor._cdata`), so every check costs nanoseconds and none is cached.

#include <ATen/core/TensorBody.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace {

inline c10::TensorImpl* impl(uint64_t handle) {
  return reinterpret_cast<c10::TensorImpl*>(handle);
}

struct Place {
  c10::DeviceType type;
  int index;  // -1: any
  c10::DispatchKeySet plain;

  Place(c10::DeviceType type, int index, c10::DispatchKey key, c10::BackendComponent bit)
      : type(type),
        index(index),
        // No lazy negation, functorch wrapper, DTensor ... : memory is what the tensor means.
        plain(c10::DispatchKeySet(key) | c10::getAutogradRelatedKeySetFromBackend(bit) |
              c10::getAutocastRelatedKeySetFromBackend(bit)) {}

  bool has_memory_of(c10::TensorImpl& x) const {
    return (x.key_set().raw_repr() & ~plain.raw_repr()) == 0 && x.has_storage() &&
        x.device_type() == type && (index < 0 || x.device().index() == index);
  }

  // Tensors of inference mode may be read, but nothing would see that they were written to.
  bool has(c10::TensorImpl& x) const { return has_memory_of(x) && !x.is_inference(); }
};

inline const Place& on_cpu() {
  static const Place place(c10::DeviceType::CPU, -1, c10::DispatchKey::CPU,
                           c10::BackendComponent::CPUBit);
  return place;
}

inline Place on_cuda(int index) {
  return Place(c10::DeviceType::CUDA, index, c10::DispatchKey::CUDA,
               c10::BackendComponent::CUDABit);
}

struct Row {  // what belongs to one parameter; null where there is none
  c10::TensorImpl *param, *grad, *momentum, *scale, *residual;
};

inline bool same_layout(const c10::TensorImpl& x, const c10::TensorImpl& y) {
  return x.numel() == y.numel() && x.sizes() == y.sizes() &&
      ((x.is_contiguous() && y.is_contiguous()) || x.strides() == y.strides());
}

inline bool is_float(c10::ScalarType x) {
  return x == c10::ScalarType::Float || x == c10::ScalarType::BFloat16;
}

// Whether place, dtypes and layouts are what the kernels take.
inline bool fits(const Row& row, const Place& place, int64_t block) {
  using c10::ScalarType;
  if (row.grad == nullptr || row.momentum == nullptr) return false;
  c10::TensorImpl &p = *row.param, &g = *row.grad, &m = *row.momentum;
  const ScalarType stored = m.dtype().toScalarType();
  if (!place.has(p) || !place.has_memory_of(g) || !place.has(m)) return false;
  if (!is_float(p.dtype().toScalarType()) || g.dtype() != p.dtype()) return false;
  if (!is_float(stored) && stored != ScalarType::Char) return false;
  if (!p.is_non_overlapping_and_dense() || !same_layout(p, g) || !same_layout(p, m)) return false;
  if (stored == ScalarType::Char) {
    c10::TensorImpl* scale = row.scale;
    if (scale == nullptr || !place.has(*scale) || !scale->is_contiguous() ||
        scale->dtype().toScalarType() != ScalarType::Float ||
        scale->numel() != (p.numel() + block - 1) / block)
      return false;
  }
  if (row.residual != nullptr) {
    if (p.dtype().toScalarType() != ScalarType::BFloat16 || !place.has(*row.residual) ||
        row.residual->dtype() != p.dtype() || !same_layout(p, *row.residual))
      return false;
  }
  return p.numel() == 0 || (p.data() && g.data() && m.data());
}

struct Collected {
  std::vector<Row> rows;
  std::vector<int64_t> index;     // of each in the call
  std::vector<at::Tensor> alive;  // gradients, should another thread drop them meanwhile
};

// Parameters that share memory must be stepped one after the other: the loop does.
inline void leave_overlaps(const Collected& found, uint8_t* left) {
  std::vector<std::pair<const char*, size_t>> order;
  order.reserve(found.rows.size());
  for (size_t j = 0; j < found.rows.size(); ++j)
    if (found.rows[j].param->numel())
      order.emplace_back(static_cast<const char*>(found.rows[j].param->data()), j);
  std::sort(order.begin(), order.end());
  const char* reach = nullptr;
  size_t owner = 0;
  for (auto [begin, j] : order) {
    const char* end = begin + found.rows[j].param->numel() * found.rows[j].param->itemsize();
    if (begin < reach) left[found.index[j]] = left[found.index[owner]] = 1;
    if (end > reach) reach = end, owner = j;
  }
}

// handles: n parameters, n momenta, n scales, n residuals; 0 is none. The gradients may be null
// altogether: then each parameter's own is taken, and one without is passed over. Sets left[i] to 1
// where a tensor cannot be served.
inline Collected collect(int64_t n, const uint64_t* handles, const uint64_t* grad_handles,
                         const Place& place, int64_t block, uint8_t* left) {
  Collected found;
  found.rows.reserve(n), found.index.reserve(n), found.alive.reserve(n);
  std::memset(left, 0, n);
  for (int64_t i = 0; i < n; ++i) {
    Row row{impl(handles[i]), nullptr, impl(handles[n + i]), impl(handles[2 * n + i]),
            impl(handles[3 * n + i])};
    if (grad_handles) {
      row.grad = impl(grad_handles[i]);
    } else {
      const at::Tensor& grad = row.param->grad();
      if (!grad.defined()) continue;
      found.alive.push_back(grad);
      row.grad = grad.unsafeGetTensorImpl();
    }
    if (fits(row, place, block)) {
      found.rows.push_back(row), found.index.push_back(i);
    } else {
      left[i] = 1;
    }
  }
  leave_overlaps(found, left);
  return found;
}

// Autograd must notice, as after any in-place operation.
inline void mark_changed(const Row& row) {
  row.param->bump_version();
  row.momentum->bump_version();
}

}  // namespace
