// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace libft::demo {
namespace {

constexpr double kWidth = 1000, kLeft = 56, kRight = 14, kTop = 74, kBottom = 30;
constexpr double kLabelRow = 16;
constexpr std::size_t kLabelRows = 4;

double share(const Axis& axis, double value) {
  value = std::clamp(value, axis.from, axis.to);
  if (axis.scale == Scale::linear) return (value - axis.from) / (axis.to - axis.from);
  return std::log(value / axis.from) / std::log(axis.to / axis.from);
}

// About `wanted` round values: 1, 2 or 5 times a power of ten apart; powers of ten when
// logarithmic.
std::vector<double> ticks(const Axis& axis, int wanted) {
  std::vector<double> values;
  if (axis.scale == Scale::logarithmic) {
    for (double v = std::pow(10, std::ceil(std::log10(axis.from))); v <= axis.to * 1.001; v *= 10) {
      values.push_back(v);
    }
    return values;
  }
  const double rough = (axis.to - axis.from) / wanted;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  const double step = power * (rough / power <= 1   ? 1
                               : rough / power <= 2 ? 2
                               : rough / power <= 5 ? 5
                                                    : 10);
  for (double i = std::ceil(axis.from / step); i * step <= axis.to * 1.0001; ++i) {
    values.push_back(i * step);
  }
  return values;
}

std::string number(double value) {
  return fmt::format("{:g}", std::round(value * 1e6) / 1e6 + 0.0);
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

Chart::Chart(Axis x, Axis y, double height)
    : x_(std::move(x)), y_(std::move(y)), height_(height), label_ends_(kLabelRows, 0.0) {
  if (!(x_.to > x_.from)) x_.to = x_.from + 1;
  if (!(y_.to > y_.from)) y_.to = y_.from + 1;
}

double Chart::at_x(double x) const { return kLeft + share(x_, x) * (kWidth - kLeft - kRight); }
double Chart::at_y(double y) const {
  return height_ - kBottom - share(y_, y) * (height_ - kTop - kBottom);
}

void Chart::dot(double x, double y, std::string_view style) {
  body_ += fmt::format("<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"1.7\"/>", style,
                       at_x(x), at_y(y));
}

void Chart::segment(double x1, double y1, double x2, double y2, std::string_view style) {
  body_ +=
      fmt::format("<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>",
                  style, at_x(x1), at_y(y1), at_x(x2), at_y(y2));
}

void Chart::bar(double x, double width_px, double y1, double y2, std::string_view style) {
  body_ += fmt::format(
      "<rect class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>", style,
      at_x(x), at_y(y2), width_px, std::max(0.0, at_y(y1) - at_y(y2)));
}

void Chart::band(double x1, double x2, std::string_view style) {
  body_ += fmt::format(
      "<rect class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>", style,
      at_x(x1), kTop, std::max(1.0, at_x(x2) - at_x(x1)), height_ - kTop - kBottom);
}

void Chart::flag(double x, std::string_view label, std::string_view style) {
  if (x < x_.from || x > x_.to) return;
  const double place = at_x(x), width = 7.2 * static_cast<double>(label.size()) + 12;
  const bool to_left = place + width > kWidth;
  const double from = to_left ? place - width : place;
  std::size_t row = 0;
  while (row < kLabelRows && label_ends_[row] > from) ++row;
  if (row == kLabelRows) label = {}, row = kLabelRows - 1;  // No room: the line alone.
  label_ends_[row] = std::max(label_ends_[row], from + width);
  const double y = kTop - 8 - kLabelRow * static_cast<double>(kLabelRows - 1 - row);
  flags_ += fmt::format(
      "<line class=\"flag {0}\" x1=\"{1:.1f}\" x2=\"{1:.1f}\" y1=\"{2:.1f}\" y2=\"{3:.1f}\"/>"
      "<text class=\"flag {0}\" x=\"{4:.1f}\" y=\"{5:.1f}\" text-anchor=\"{6}\">{7}</text>",
      style, place, y - 10, height_ - kBottom, to_left ? place - 4 : place + 4, y,
      to_left ? "end" : "start", escape_html(label));
}

std::string Chart::grid() const {
  std::string out;
  const std::vector<double> ys = ticks(y_, 5), xs = ticks(x_, 10);
  for (const double y : ys) {
    out += fmt::format(
        "<line class=\"grid\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", kLeft,
        kWidth - kRight, at_y(y), at_y(y));
    out +=
        fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>",
                    kLeft - 6, at_y(y) + 4, number(y));
  }
  out += fmt::format("<text class=\"tick\" x=\"4\" y=\"{:.1f}\">{}</text>", kTop - 12, y_.unit);
  for (const double x : xs) {
    out += fmt::format(
        "<line class=\"grid\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", at_x(x),
        at_x(x), kTop, height_ - kBottom);
    out +=
        fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}{}</text>",
                    at_x(x), height_ - kBottom + 18, x == xs.back() ? "end" : "middle", number(x),
                    x == xs.back() ? " " + x_.unit : "");
  }
  return out;
}

std::string Chart::svg(std::string_view title) const {
  return fmt::format(
      "<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\" "
      "xmlns=\"http://www.w3.org/2000/svg\">{}{}{}</svg>\n",
      kWidth, height_, escape_html(title), grid(), body_, flags_);
}

}  // namespace libft::demo
