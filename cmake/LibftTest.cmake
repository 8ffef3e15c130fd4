# SPDX-License-Identifier: LGPL-2.1-or-later
# libft_test(NAME SOURCES a.cc LINKS base os [LABELS unit] [TIMEOUT seconds])
# One doctest program and one ctest entry. LABELS: unit (seconds, no privileges), sim, lab, fuzz.
find_package(doctest REQUIRED)
add_library(ft_test_main STATIC ${CMAKE_SOURCE_DIR}/tests/support/main.cc)
target_link_libraries(ft_test_main PUBLIC doctest::doctest)

function(libft_test name)
  cmake_parse_arguments(TEST "" "TIMEOUT" "SOURCES;LINKS;LABELS;PACKAGES" ${ARGN})
  add_executable(test_${name} ${TEST_SOURCES})
  target_include_directories(test_${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  foreach(link ${TEST_LINKS})
    target_link_libraries(test_${name} PRIVATE ft_${link})
  endforeach()
  target_link_libraries(test_${name} PRIVATE ft_test_main ${TEST_PACKAGES})
  add_test(NAME ${name} COMMAND test_${name})
  if(NOT TEST_LABELS)
    set(TEST_LABELS unit)
  endif()
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 120)
  endif()
  # 77 says: this machine cannot run it; the test printed why.
  set_tests_properties(${name} PROPERTIES LABELS "${TEST_LABELS}" TIMEOUT ${TEST_TIMEOUT}
                                          SKIP_RETURN_CODE 77)
endfunction()
