// SPDX-License-Identifier: LGPL-2.1-or-later
// A Chart is one SVG picture in the making: a frame with axes, and marks at places given in the
// chart's own units. The report draws with it. One thread; a value.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace libft::demo {

enum class Scale { linear, logarithmic };

struct Axis {
  double from = 0, to = 1;
  Scale scale = Scale::linear;
  std::string unit;  // Stands beside the last number.
};

class Chart {
 public:
  Chart(Axis x, Axis y, double height);

  void dot(double x, double y, std::string_view style);
  void segment(double x1, double y1, double x2, double y2, std::string_view style);
  void bar(double x, double width_px, double y1, double y2, std::string_view style);
  void band(double x1, double x2, std::string_view style);
  // A line from top to bottom with a label; labels that would overlap go to the next row,
  // and are left out where there is none.
  void flag(double x, std::string_view label, std::string_view style);

  std::string svg(std::string_view title) const;

 private:
  double at_x(double x) const;
  double at_y(double y) const;
  std::string grid() const;

  Axis x_, y_;
  double height_;
  std::string body_, flags_;
  std::vector<double> label_ends_;  // Of each row of labels, in pixels.
};

std::string escape_html(std::string_view text);

}  // namespace libft::demo
