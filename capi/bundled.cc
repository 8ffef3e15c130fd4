// SPDX-License-Identifier: LGPL-2.1-or-later
// The parts of {fmt} and xxHash that are not in their headers, compiled into libft.so and hidden
// there, as both provide for: libft.so needs neither library in its host's process, and does not
// clash with another version of one that is there.
#define XXH_STATIC_LINKING_ONLY
#define XXH_IMPLEMENTATION
#include <fmt/format-inl.h>
#include <xxhash.h>

FMT_BEGIN_NAMESPACE
namespace detail {

template FMT_API auto dragonbox::to_decimal(float x) noexcept -> dragonbox::decimal_fp<float>;
template FMT_API auto dragonbox::to_decimal(double x) noexcept -> dragonbox::decimal_fp<double>;

template FMT_API auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template FMT_API auto decimal_point_impl(locale_ref) -> char;
template FMT_API void buffer<char>::append(const char*, const char*);
template FMT_API void vformat_to(buffer<char>&, string_view,
                                 basic_format_args<FMT_BUFFER_CONTEXT(char)>, locale_ref);

}  // namespace detail
FMT_END_NAMESPACE
