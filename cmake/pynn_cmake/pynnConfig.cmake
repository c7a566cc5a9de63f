# find_package(pynn) gives pynn::pynn, the headers of operators, and pynn_add_operators.
cmake_minimum_required(VERSION 3.21...4.0)

set(_pynn_headers "${CMAKE_CURRENT_LIST_DIR}/../pynn/include")
if(NOT EXISTS "${_pynn_headers}/pynn/abi.h")  # an editable installation
  set(_pynn_headers "${CMAKE_CURRENT_LIST_DIR}/../../csrc/include")
endif()
get_filename_component(pynn_INCLUDE_DIR "${_pynn_headers}" ABSOLUTE)
unset(_pynn_headers)

if(NOT TARGET pynn::pynn)
  add_library(pynn::pynn INTERFACE IMPORTED)
  set_target_properties(pynn::pynn PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${pynn_INCLUDE_DIR}")
  target_compile_features(pynn::pynn INTERFACE cxx_std_17)
endif()

# pynn_add_operators(NAME sources...): a library for pynn.load_library, called NAME.so, or NAME.dll
# on Windows. It links with nothing of pynn and nothing of Python.
function(pynn_add_operators name)
  add_library(${name} MODULE ${ARGN})
  target_link_libraries(${name} PRIVATE pynn::pynn)
  set_target_properties(${name} PROPERTIES
    PREFIX ""
    C_VISIBILITY_PRESET hidden
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON)
endfunction()
