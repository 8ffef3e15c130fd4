# SPDX-License-Identifier: LGPL-2.1-or-later
# libft_layer(NAME SOURCES a.cc b.cc LINKS base os ... [PACKAGES fmt::fmt ...])
#
# One folder of src/ becomes one static library ft_<NAME>. LINKS are other layers and must stay
# within the list of docs/ARCHITECTURE.md; the test "layers" checks the #include lines against the
# same list, so that a header-only shortcut is noticed too.
function(libft_layer name)
  cmake_parse_arguments(LAYER "" "" "SOURCES;LINKS;PACKAGES" ${ARGN})
  add_library(ft_${name} STATIC ${LAYER_SOURCES})
  target_include_directories(ft_${name} PUBLIC ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
  foreach(link ${LAYER_LINKS})
    target_link_libraries(ft_${name} PUBLIC ft_${link})
  endforeach()
  target_link_libraries(ft_${name} PUBLIC fmt::fmt tl::expected ${LAYER_PACKAGES})
endfunction()
